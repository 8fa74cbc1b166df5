"""All runs of a folder, here or on another host: which there are, and what the end of each log says."""
