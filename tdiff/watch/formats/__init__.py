"""Log formats: one parser per module, detected by content and never by file name."""
