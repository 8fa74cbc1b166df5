"""Canvases, curves, tables and predictions as styled lines of text: pure functions, without widgets and torch."""
