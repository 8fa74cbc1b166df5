"""The live view. It knows the records and no torch."""
