"""Measures of text in pictures, in pixels, which the kinds of pictures share."""

ROW, FONT, MARGIN = 18, 14, 12
"""Height of a row of text, size of the text, and margin around the picture."""
BASELINE = 13
"""From the top of a row down to its baseline."""
