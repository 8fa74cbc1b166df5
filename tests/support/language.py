"""The word list of CONTRIBUTING.md: `python -m tests.support.language` names each retired word that is still in use.

Identifiers are checked word by word (`told_by` has the words `told` and `by`); docstrings, comments and the Markdown
pages are checked for phrases. Strings of the program are checked too, since users read them; fixtures of tests are not.
"""

import ast
import io
import re
import sys
import tokenize
from collections.abc import Iterator
from pathlib import Path

from tests.support.paths import ROOT

WORDS = frozenset({"told", "begun", "theirs", "somebody", "nobody", "beginnings", "meanwhile"})
"""Words that no identifier contains."""
PHRASES = re.compile(
    r"\b(gone on with|goes? on with|going on with|go on from|is had\b|be had\b|passed over|(?:is|are|be|was|were) told"
    r"|told (?:of|by)|nobody|somebody|begun|begin from|begins from|practis\w+|weighed|but for|whose weights)\b",
    re.IGNORECASE,
)
"""Phrases that no prose contains."""
ALLOWED = re.compile(r"told\.safetensors|`told`")
"""Names on disk."""
PAGES = ("README.md", "CHANGELOG.md", "tdiff/guide/*.md", "configs/study/*.md")


def identifiers(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, name) of everything that a module binds."""
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.lineno, node.name
            case ast.arg():
                yield node.lineno, node.arg
            case ast.Name(ctx=ast.Store()):
                yield node.lineno, node.id
            case ast.Attribute(ctx=ast.Store()):
                yield node.lineno, node.attr


def retired(path: Path) -> Iterator[str]:
    """One line for each retired word in a file."""
    text, name = path.read_text("utf-8"), path.relative_to(ROOT)
    if path.suffix == ".md":
        for number, line in enumerate(text.splitlines(), 1):
            for match in PHRASES.finditer(ALLOWED.sub("", line)):
                yield f"{name}:{number}: {match[0]!r}"
        return
    for number, identifier in identifiers(ast.parse(text)):
        if words := WORDS & set(re.split(r"[\W_]+", identifier.lower())):
            yield f"{name}:{number}: identifier {identifier!r} contains {', '.join(sorted(words))!r}"
    tests = name.parts[0] == "tests"
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.COMMENT or (token.type == tokenize.STRING and not tests):
            for match in PHRASES.finditer(ALLOWED.sub("", token.string)):
                line = token.start[0] + token.string[: match.start()].count("\n")
                yield f"{name}:{line}: {match[0]!r}"


def main() -> int:
    """Print what is found; 1 where there is something."""
    files = [path for top in ("tdiff", "tests") for path in sorted((ROOT / top).rglob("*.py"))]
    files = [path for path in files if path != Path(__file__).resolve()]
    files += [path for pattern in PAGES for path in sorted(ROOT.glob(pattern))]
    lines = [line for path in files for line in retired(path)]
    print("\n".join(lines))
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
