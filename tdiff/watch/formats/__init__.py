"""Parsers of logs: what a source says, detected by its content and never by its name."""
