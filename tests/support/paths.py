"""Folders: the repository, and the shared data next to it, which may be missing."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHARED = ROOT.parent / "shared"
