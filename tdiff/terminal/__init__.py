"""What the terminal can do, whether a client is attached to it, and its raw input. No widgets."""
