"""The panes of the live view."""
