"""Text from models, logs and files is safe to print."""

import itertools
import json
import re
import unicodedata

from hypothesis import example, given
from hypothesis import settings as examples
from hypothesis import strategies as st

from tdiff.visible import json_visible, visible, visible_line

FEW = examples(derandomize=True, deadline=None, max_examples=100, database=None)
FILLERS = "\u115f\u1160\u17b4\u17b5\u3164\uffa0" + "".join(map(chr, range(0xFE00, 0xFE10)))  # letters that show nothing
SAFE = st.text(
    st.characters(categories=["L", "N", "P", "S", "Mn", "Zs"], exclude_characters=FILLERS, max_codepoint=0xDFFFF)
)
EXECUTED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f]")
BIDI = set("\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
ATTACKS = (
    "\x1b[31m",
    "\x9b31m",
    "\x1b]52;c;QQ==\x07",
    "\r\x1b[K",
    "\x7f\x08\x08",
    "\u202eabc\u2069",
    "\ud800",
    "\U000e0041",
    "\ufeff\u200b\u2028",
)
ANY_TEXT = st.one_of(st.text(st.characters()), st.lists(st.sampled_from([*ATTACKS, "a", "\n"])).map("".join))


@given(text=ANY_TEXT)
@example("".join(ATTACKS))
@example("".join(map(chr, range(0x300))))
@FEW
def test_visible_removes_everything_that_a_terminal_executes(text):
    shown = visible(text)
    assert not EXECUTED.search(shown) and not set(shown) & BIDI
    assert not any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in set(shown) - {"\n", "\t"})
    shown.encode("utf-8")
    line = visible_line(text)
    assert len(line.splitlines()) <= 1 and not EXECUTED.search(line) and "\t" not in line


@given(text=ANY_TEXT)
@FEW
def test_visible_is_idempotent(text):
    assert visible(visible(text)) == visible(text)
    assert visible_line(visible_line(text)) == visible_line(text) == visible_line(visible(text))


@given(text=SAFE)
@example("plain text,\n\twith e\u0301 and 日本語 and 😀")
@FEW
def test_safe_text_is_unchanged(text):
    assert visible(text) == text


def test_every_control_and_format_character_is_made_visible():
    unchanged = [
        code
        for code in range(0x110000)
        if unicodedata.category(chr(code)) in ("Cc", "Cs", "Zl", "Zp") and visible(chr(code)) == chr(code)
    ]
    assert unchanged == [ord("\t"), ord("\n")]
    assert all(visible(c) != c for c in BIDI)


def test_visible_text_names_the_original_character():
    assert visible("\x1b\x00\r\x7f") == "␛␀␍␡"
    assert visible("\x9b\u202e\U000e0041") == "\\x9b\\u202e\\U000e0041"
    assert visible_line("a\tb\n") == "a␉b␊"
    pictures = [visible(chr(code)) for code in itertools.chain(range(0x9), range(0xB, 0x20), range(0x7F, 0xA0))]
    assert len(set(pictures)) == len(pictures)


def test_visible_json_is_equivalent_and_safe():
    values = {"".join(ATTACKS[:6]): ["\x9b\u2028", {"\U000e0041": "\ufeff"}]}
    line = json_visible(json.dumps(values, ensure_ascii=False))
    assert json.loads(line) == values and visible(line) == line
