"""Safe text: the one module that makes text from a model, a log or a file safe to print.

A terminal executes control characters, escape sequences and direction overrides from any source. Each is replaced by a
picture or a written escape, which the reader sees and the terminal ignores.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any

# C0 and C1 controls, DEL, bidirectional marks and overrides, zero-width characters, line and paragraph separators,
# the byte-order mark, interlinear anchors, lone surrogates, and the tag characters that hide text in text.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e0fff]"
)
_UNSAFE_IN_CELL = re.compile(_UNSAFE.pattern[:-1] + "\t\n]")


def _picture(match: re.Match[str]) -> str:
    code = ord(match[0])
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "\u2421"
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def visible(text: str) -> str:
    """`text` with everything that a terminal might execute made visible; line feeds and tabs are unchanged."""
    return _UNSAFE.sub(_picture, text)


def visible_line(text: str) -> str:
    """As `visible`, with line feeds and tabs made visible too: for text that must stay on one line."""
    return _UNSAFE_IN_CELL.sub(_picture, text)


def json_visible(line: str) -> str:
    """An equivalent line of JSON, in which everything that a terminal might execute is a JSON escape."""
    return _UNSAFE.sub(lambda match: json.dumps(match[0])[1:-1], line)


def json_line(value: Any, *, compact: bool = False) -> str:
    """One line of valid JSON without its line feed, safe to print; all JSON output is made by this function.

    A number that is not finite becomes null, because JSON cannot represent it.
    """
    separators = (",", ":") if compact else None
    try:
        line = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=separators)
    except ValueError:
        line = json.dumps(finite(value), ensure_ascii=False, allow_nan=False, separators=separators)
    return json_visible(line)


def finite(value: Any) -> Any:
    """The value with None in place of each number that is not finite, as JSON can represent it."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {str(k) if isinstance(k, float) else k: finite(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(v) for v in value]
    return value
