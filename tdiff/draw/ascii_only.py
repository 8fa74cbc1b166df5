"""Text for a terminal that shows ASCII only: frames, blocks, arrows and curves become ASCII characters.

Widths do not change: a character of two cells becomes two characters, so that alignment is preserved.
"""

from __future__ import annotations

from functools import lru_cache

from rich.cells import cell_len


@lru_cache(maxsize=4096)
def ascii_text(text: str, everything: bool = False) -> str:
    """The text with drawing characters and punctuation as ASCII; with `everything`, other characters become "?".

    `everything` is for a terminal that reads each byte as a character: there the UTF-8 of a harmless letter can contain
    the byte 0x9b, which begins a control sequence.
    """
    if text.isascii():
        return text
    text = text.translate(_SPELLINGS)
    if not everything or text.isascii():
        return text
    return "".join(c if c.isascii() else "?" * cell_len(c) for c in text)


def _table(**kinds: str) -> dict[int, str]:
    return {ord(c): _SPELLED[name] for name, characters in kinds.items() for c in characters}


_SPELLED = {
    "dash": "-", "bar": "|", "low": "_", "hash": "#", "percent": "%", "colon": ":", "dot": ".", "star": "*",
    "up": "^", "down": "v", "left": "<", "right": ">", "equal": "=", "plus": "+", "cross": "x", "slash": "/",
    "quote": "'", "quotes": '"', "blank": " ", "sigma": "s", "mu": "u",
}  # fmt: skip

# Ranges first: box drawing, blocks, shapes, braille; then the characters in them that have a better replacement.
_DRAWN = (
    dict.fromkeys(range(0x2500, 0x2580), "+")
    | dict.fromkeys(range(0x2580, 0x25A0), "#")
    | dict.fromkeys(range(0x25A0, 0x2600), "*")
    | dict.fromkeys(range(0x2800, 0x2900), ".")
    | _table(
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
_TYPED = _table(
    dot="·…", left="≤«", right="≥»", equal="≠", plus="±✓", cross="×✗", slash="÷", dash="–—−", quote="‘’", quotes="“”",
    star="•", blank="°\u00a0", sigma="σ§", mu="µμ",
)  # fmt: skip
_SPELLINGS = _DRAWN | _TYPED | {ord("🔎"): "> "}
