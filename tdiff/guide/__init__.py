"""The guide: pages of Markdown beside this file, read in the terminal with `tdiff guide`."""

from __future__ import annotations

import os
import shutil
import sys
from contextlib import nullcontext
from importlib import resources
from pathlib import Path

from tdiff.errors import unknown


def pages() -> dict[str, str]:
    """Name -> Markdown of every page, in the order of their names."""
    files = sorted(resources.files(__name__).iterdir(), key=lambda file: file.name)
    return {file.name.removesuffix(".md"): file.read_text("utf-8") for file in files if file.name.endswith(".md")}


def title(page: str) -> str:
    """A page's heading."""
    return page.partition("\n")[0].lstrip("# ")


def show(topic: str | None) -> None:
    """Print a page: rendered on a terminal, as Markdown elsewhere. Raises TdiffError naming the nearest page."""
    texts = pages()
    if topic is None:
        width = max(map(len, texts))
        print("\n".join(f"tdiff guide {name:<{width}}  {title(text)}" for name, text in texts.items()))
        return
    if topic not in texts:
        raise unknown("page", topic, texts)
    if not sys.stdout.isatty():
        print(texts[topic], end="")
        return
    from rich.console import Console
    from rich.markdown import Markdown

    console = Console()
    long = texts[topic].count("\n") > console.height
    with console.pager(styles=_styled()) if long else nullcontext():
        console.print(Markdown(texts[topic]), width=min(console.width, 100))


def _styled() -> bool:
    """Whether the pager shows styles. Without its option -R less prints their codes as text, and others may, too."""
    named = os.environ.get("MANPAGER") or os.environ.get("PAGER")  # as pydoc, which starts it, chooses
    program = named.split()[0] if named and named.split() else shutil.which("less") or ""
    if Path(program).name != "less":
        return False
    os.environ["LESS"] = f"-R {os.environ.get('LESS', '')}"  # before the user's own options, which end in any text
    return True
