"""Metrics over steps in bounded memory."""
