"""Where lines come from: local files, pipes, other hosts."""
