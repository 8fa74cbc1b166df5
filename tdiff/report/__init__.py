"""Results as text, JSON lines and HTML pages."""
