"""The frame of every HTML report: one self-contained page, its tables, and escaped text."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from html import escape
from pathlib import Path

from tdiff.errors import TdiffError
from tdiff.files import write_atomic
from tdiff.visible import visible

_STYLE = """\
body { font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 50rem; color-scheme: light dark; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: 1rem 0; }
th, td { padding: .25rem .75rem; text-align: right; border-bottom: 1px solid #8884; }
th:first-child, td:first-child { text-align: left; }"""


def page(title: str, body: str, style: str = "") -> str:
    """A page that needs no other file. `body` is HTML; `style` is CSS after that of the frame."""
    return f"""<!doctype html>
<html lang="en"><meta charset="utf-8"><title>{text(title)}</title>
<style>
{_STYLE}
{style}</style>
{body}</html>
"""


def text(content: str) -> str:
    """Text as HTML: markup is escaped, and control characters are made visible."""
    return escape(visible(content))


def table(rows: Sequence[Sequence[str]], classes: Sequence[str] = ()) -> str:
    """A table whose first row is the header. `classes` holds a CSS class for each of the other rows."""
    header, *body = [[text(cell) for cell in row] for row in rows]
    head = "".join(f"<th>{cell}</th>" for cell in header)
    lines = ""
    for cells, name in zip(body, classes or [""] * len(body), strict=True):
        marked = f' class="{name}"' if name else ""
        lines += f"<tr{marked}>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>\n"
    return f"<table><tr>{head}</tr>\n{lines}</table>"


def check_file(path: Path) -> None:
    """Raise TdiffError if a page cannot be saved as `path`, before hours of work for it."""
    if path.is_dir() or not path.parent.is_dir():
        raise TdiffError(f"the page {str(path)!r} cannot be written: name a file in an existing folder")


def save(path: Path, content: str) -> None:
    """Save a page and report it on stderr. Raises TdiffError if the file cannot be written."""
    try:
        write_atomic(path, content.encode())
    except OSError as error:
        raise TdiffError(f"the page {str(path)!r} cannot be written: {error.strerror}") from None
    print(f"saved {path}", file=sys.stderr)
