"""Training: rows, state, optimizers, and the step loop."""
