"""Where things are: the repository, and the shared data beside it, which may be absent."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"
