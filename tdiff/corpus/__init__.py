"""Text on disk: rows with labels, training corpora and their splits, and the named corpora."""
