"""Generation beside a watched run: the model's process, live generations and their recordings."""
