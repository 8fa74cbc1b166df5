"""What the terminal can do, who is attached to it, and its raw input. No widgets."""
