"""Masked diffusion: schedules, the objective, decoders, and the denoising loop."""
