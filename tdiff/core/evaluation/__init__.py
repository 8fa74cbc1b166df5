"""How good a model is: likelihood bounds, quality of generated text, classification metrics."""
