"""The quality of a model: likelihood bounds, quality of generated text, classification metrics."""
