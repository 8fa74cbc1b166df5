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
    """Return the Markdown of every page by its name, sorted by name."""
    files = sorted(resources.files(__name__).iterdir(), key=lambda file: file.name)
    return {file.name.removesuffix(".md"): file.read_text("utf-8") for file in files if file.name.endswith(".md")}


def title(page: str) -> str:
    """Return the heading of a page."""
    return page.partition("\n")[0].lstrip("# ")


def show(topic: str | None) -> None:
    """Print a page, rendered on a terminal and as Markdown elsewhere. Raises TdiffError that names the nearest page."""
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
    """Return whether the pager shows styles. Without -R, less prints their codes as text, and other pagers may too."""
    command = os.environ.get("MANPAGER") or os.environ.get("PAGER")  # the order of pydoc, which starts the pager
    program = command.split()[0] if command and command.split() else shutil.which("less") or ""
    if Path(program).name != "less":
        return False
    os.environ["LESS"] = f"-R {os.environ.get('LESS', '')}"  # before the user's options, which may end in any text
    return True
