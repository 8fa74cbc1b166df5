"""Text for a terminal that shows ASCII only: frames, blocks, arrows and curves become characters that every one has.

Widths stay: a character of two cells becomes two, so what was aligned stays aligned.
"""

from __future__ import annotations

from functools import lru_cache

from rich.cells import cell_len


@lru_cache(maxsize=4096)
def ascii_text(text: str, everything: bool = False) -> str:
    """The text with all that a view draws and punctuates with as ASCII; with `everything` letters too, as "?".

    The second is for a terminal that takes each byte for a character: there the UTF-8 of an innocent letter can hold
    the byte 0x9b, which such a terminal obeys.
    """
    if text.isascii():
        return text
    text = text.translate(_SPELLINGS)
    if not everything or text.isascii():
        return text
    return "".join(c if c.isascii() else "?" * cell_len(c) for c in text)


def _each(**kinds: str) -> dict[int, str]:
    return {ord(c): _SPELLED[name] for name, characters in kinds.items() for c in characters}


_SPELLED = {
    "dash": "-", "bar": "|", "low": "_", "hash": "#", "percent": "%", "colon": ":", "dot": ".", "star": "*",
    "up": "^", "down": "v", "left": "<", "right": ">", "equal": "=", "plus": "+", "cross": "x", "slash": "/",
    "quote": "'", "quotes": '"', "blank": " ", "sigma": "s", "mu": "u",
}  # fmt: skip

# Whole ranges first: box drawing, blocks, shapes, braille; then those among them that have a better likeness.
_DRAWN = (
    dict.fromkeys(range(0x2500, 0x2580), "+")
    | dict.fromkeys(range(0x2580, 0x25A0), "#")
    | dict.fromkeys(range(0x25A0, 0x2600), "*")
    | dict.fromkeys(range(0x2800, 0x2900), ".")
    | _each(
        dash="─━┄┅┈┉╌╍╴╶╸╺╼╾▔▀↔",
        bar="‖│┃┆┇┊┋╎╏║╵╷╹╻╽╿┤├▏▎▍▌▋▊▉▐▕↕⇅",
        equal="═⇄",
        low="▁▂",
        colon="░",
        percent="▒▓",
        up="▲▴△↑⇧",
        down="▼▾▽↓⇩",
        left="◀◂◄←⇐⏎",
        right="▶▸►→⇒",
        dot="▪▫",
        blank="\u2800",
    )
)
_TYPED = _each(
    dot="·…", left="≤«", right="≥»", equal="≠", plus="±✓", cross="×✗", slash="÷", dash="–—−", quote="‘’", quotes="“”",
    star="•", blank="°\u00a0", sigma="σ§", mu="µμ",
)  # fmt: skip
_SPELLINGS = _DRAWN | _TYPED | {ord("🔎"): "> "}
