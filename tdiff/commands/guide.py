"""`tdiff guide`: the pages of the guide in the terminal."""

from __future__ import annotations

from dataclasses import dataclass

from tdiff.config.options import argument

EXAMPLES = ("tdiff guide", "tdiff guide decoders")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """The options of the command."""

    topic: str | None = argument(None, "A page; without it, the list of pages.", complete="pages")


def run(request: Request) -> None:
    """Print a page, or the list of them."""
    from tdiff import guide

    guide.show(request.topic)
