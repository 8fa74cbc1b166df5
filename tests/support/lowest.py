"""The lowest versions that pyproject.toml allows: `python -m tests.support.lowest [NAME==VERSION ...]`.

The arguments replace those versions. `make test-lowest` installs these and runs the tests.
"""

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def lowest(others: dict[str, str]) -> list[str]:
    """A requirement for each dependency. Raises ValueError for one without a lower bound."""
    requirements = []
    for line in tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["dependencies"]:
        bound = re.match(r"([\w.-]+)>=([\w.]+)", line)
        if bound is None:
            raise ValueError(f"{line!r} has no lower bound")
        name, version = bound.groups()
        requirements.append(others.get(name) or f"{name}=={version}")
    return requirements


if __name__ == "__main__":
    print("\n".join(lowest({argument.partition("==")[0]: argument for argument in sys.argv[1:]})))
