"""The records of a training run for other programs: TensorBoard event files, W&B, Trackio, MLflow."""
