"""How things look: records, canvases and curves as lines, and what a terminal can take. No widget, and no torch."""
