"""The commands of `tdiff`, one module each. A module is imported when its command runs."""
