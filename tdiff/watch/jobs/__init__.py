"""Jobs of a scheduler: what it knows of the process that writes a log."""
