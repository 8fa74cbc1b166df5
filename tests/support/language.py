"""The word list of CONTRIBUTING.md: `python -m tests.support.language` prints each retired word that is still in use.

Identifiers are checked word by word (`told_by` has the words `told` and `by`); docstrings, comments and the Markdown
pages are checked for phrases. Other strings are checked in the program only, where users read them: in tests they are
fixtures.
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
"""Words that no identifier may contain."""
PHRASES = re.compile(
    r"\b(gone on with|goes? on with|going on with|go on from|is had\b|be had\b|passed over|(?:is|are|be|was|were) told"
    r"|told (?:of|by)|nobody|somebody|begun|begin from|begins from|practis\w+|weighed|but for|whose weights)\b",
    re.IGNORECASE,
)
"""Phrases that no docstring, comment or page may contain."""
ALLOWED = re.compile(r"told\.safetensors|`told`")
"""Names of files and of their fields, which do not change."""
PAGES = ("README.md", "CHANGELOG.md", "tdiff/guide/*.md", "configs/study/*.md")


def identifiers(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """(line, name) of each name that a module defines or assigns."""
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


def docstrings(tree: ast.AST) -> set[tuple[int, int]]:
    """(line, column) of each string that is a statement: docstrings of modules, classes, functions and attributes."""
    return {
        (node.value.lineno, node.value.col_offset)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
    }


def retired(path: Path) -> Iterator[str]:
    """One line for each use of a retired word or phrase in a file: its position and the word."""
    text, name = path.read_text("utf-8"), path.relative_to(ROOT)
    if path.suffix == ".md":
        for number, line in enumerate(text.splitlines(), 1):
            for match in PHRASES.finditer(ALLOWED.sub("", line)):
                yield f"{name}:{number}: {match[0]!r}"
        return
    tree = ast.parse(text)
    for number, identifier in identifiers(tree):
        if words := WORDS & set(re.split(r"[\W_]+", identifier.lower())):
            yield f"{name}:{number}: identifier {identifier!r} contains {', '.join(sorted(words))!r}"
    prose = docstrings(tree)
    program = name.parts[0] != "tests"
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        is_string = token.type == tokenize.STRING
        if token.type == tokenize.COMMENT or (is_string and (program or token.start in prose)):
            for match in PHRASES.finditer(ALLOWED.sub("", token.string)):
                line = token.start[0] + token.string[: match.start()].count("\n")
                yield f"{name}:{line}: {match[0]!r}"


def main() -> int:
    """Print the uses of retired words. Returns the exit status: 1 if there are any."""
    files = [path for top in ("tdiff", "tests") for path in sorted((ROOT / top).rglob("*.py"))]
    files = [path for path in files if path != Path(__file__).resolve()]
    files += [path for pattern in PAGES for path in sorted(ROOT.glob(pattern))]
    lines = [line for path in files for line in retired(path)]
    print("\n".join(lines))
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
