"""Pictures of a generation to share: animations, players, recordings of a terminal, and stills."""
