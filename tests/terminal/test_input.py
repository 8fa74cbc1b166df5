"""What a terminal sends becomes keys, pastes and reports; answers and garbage become nothing."""

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from textual import events
from textual._ansi_sequences import ANSI_SEQUENCES_KEYS

from tdiff.terminal.input import Piece, Splitter
from tdiff.tui.driver import SafeParser

MANY = examples(derandomize=True, deadline=None, max_examples=500, database=None)

ANSWERS = {
    "ground": "\x1b]11;rgb:1e1e/1e1e/2e2e\x1b\\",
    "ground, ended by BEL": "\x1b]11;rgb:1e1e/1e1e/2e2e\x07",
    "palette": "\x1b]4;1;rgb:cd/00/00\x07",
    "clipboard": "\x1b]52;c;cXVpdA==\x07",
    "primary attributes": "\x1b[?64;1;2;6;9;15;22c",
    "secondary attributes": "\x1b[>84;0;0c",
    "tertiary attributes": "\x1bP!|00000000\x1b\\",
    "version": "\x1bP>|kitty(0.35.2)\x1b\\",
    "capabilities": "\x1bP1+r524742=38\x1b\\",
    "kitty graphics": "\x1b_Gi=31;OK\x1b\\",
    "kitty keyboard": "\x1b[?0u",
    "cursor": "\x1b[12;40R",
    "cursor in the first row": "\x1b[1;2R",
    "status": "\x1b[0n",
    "window size": "\x1b[8;24;80t",
    "another mode": "\x1b[?1004;2$y",
    "parameters": "\x1b[2;1;1;112;112;1;0x",
    "eight bits": "\x9d11;rgb:00/00/00\x9c",
    "mouse before SGR": "\x1b[M !!",
    "mouse of urxvt": "\x1b[35;10;10M",
}
UNREADABLE = {
    "release of a key": "\x1b[97;1:3u",
    "release of an arrow": "\x1b[1;1:3A",
    "code beyond Unicode": "\x1b[99999999u",
    "code just beyond Unicode": "\x1b[1114112u",
    "half of a surrogate pair": "\x1b[55296u",
    "text beyond Unicode": "\x1b[97;1;1114112u",
    "modifiers that are none": "\x1b[97;99999u",
    "function key beyond all": "\x1b[12345678~",
    "mouse beyond all screens": "\x1b[<0;99999999999999999999;1M",
    "no size": "\x1b[48;0;0;0;0t",
    "stray end of a paste": "\x1b[201~",
    "lone terminator": "\x9c",
}


def keys(text: str, chunks: int = 10_000, known=ANSI_SEQUENCES_KEYS) -> list[str]:
    """The keys that come of a text, which arrives in pieces and is followed by silence."""
    return [message.key for message in messages(text, chunks, known) if isinstance(message, events.Key)]


def messages(text: str, chunks: int = 10_000, known=ANSI_SEQUENCES_KEYS) -> list:
    splitter, parser, now, made = Splitter(known), SafeParser(), 0.0, []
    pieces: list[Piece] = []
    for start in range(0, len(text), chunks):
        now += 0.01
        pieces += splitter.feed(text[start : start + chunks], now)
        pieces += splitter.tick(now)
    while (deadline := splitter.deadline()) is not None:
        pieces += splitter.tick(deadline)
    for piece in pieces:
        made += parser.messages(piece)
    return made


@pytest.mark.parametrize("name", ANSWERS)
@pytest.mark.parametrize("chunks", [1, 3, 10_000])
def test_an_answer_of_the_terminal_is_never_a_key(name, chunks):
    assert keys(f"?{ANSWERS[name]}q", chunks) == ["question_mark", "q"]
    assert [type(message) for message in messages(ANSWERS[name], chunks)] == []


@pytest.mark.parametrize("name", UNREADABLE)
def test_what_the_parser_cannot_read_is_dropped_alone(name):
    assert keys(f"?{UNREADABLE[name]}q") == ["question_mark", "q"]


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        ("\x1b[A", ["up"]),
        ("\x1bOA", ["up"]),
        ("\x1b[1;5A", ["ctrl+up"]),
        ("\x1b[1;1:1A", ["up"]),
        ("\x1b[97u", ["a"]),
        ("\x1b[97;1:1;97u", ["a"]),
        ("\x1b[97;1:2;97u", ["a"]),
        ("\x1b[97:65;2;65u", ["A"]),
        ("\x1b[97;5u", ["ctrl+a"]),
        ("\x1b[27u", ["escape"]),
        ("\x1b[5~", ["pageup"]),
        ("\x1b[[A", ["f1"]),
        ("\x1bOP", ["f1"]),
        ("\x1b[Z", ["shift+tab"]),
        ("\x1b", ["escape"]),
        ("\x1b\x1b", ["escape", "escape"]),
        ("\x1bx", ["alt+x"]),
        ("\x1b]", ["right_square_bracket"]),
        ("ö日", ["ö", "日"]),
        ("\r\t\x7f\x03", ["enter", "tab", "backspace", "ctrl+c"]),
    ],
)
def test_keys_are_what_textual_calls_them(sent, expected):
    assert keys(sent, 1) == expected


def test_every_sequence_in_textuals_table_is_a_key():
    for sequence, meant in ANSI_SEQUENCES_KEYS.items():
        if sequence.startswith("\x1b[") and isinstance(meant, tuple) and not sequence.endswith("$"):
            is_place_of_cursor = sequence.endswith("R") and ";" in sequence  # which has the same form
            assert bool(keys(sequence)) is not is_place_of_cursor, repr(sequence)


def test_mouse_size_focus_and_modes_are_passed_on():
    kinds = [type(message).__name__ for message in messages("\x1b[<0;3;4M\x1b[<0;3;4m\x1b[I\x1b[O\x1b[?2026;2$y")]
    assert kinds == ["MouseDown", "MouseUp", "AppFocus", "AppBlur", "TerminalSupportsSynchronizedOutput"]
    [size] = messages("\x1b[48;24;80;480;800t")
    assert (size.size.width, size.size.height) == (80, 24)


@pytest.mark.parametrize("chunks", [1, 7, 10_000])
def test_a_paste_is_one_event_without_control_characters(chunks):
    made = messages("a\x1b[200~q\x1b[31m\x00 two\nlines\x1b[201~b", chunks)
    assert [message.key if isinstance(message, events.Key) else message.text for message in made] == [
        "a", "q[31m two\nlines", "b",
    ]  # fmt: skip


def test_silence_ends_an_unfinished_paste_and_keys_work_again():
    splitter = Splitter(ANSI_SEQUENCES_KEYS)
    assert splitter.feed("\x1b[200~half", 1.0) == []
    assert splitter.tick(5.9) == []
    assert splitter.tick(6.0) == [Piece("paste", "half")]
    assert splitter.feed("q", 6.1) == [Piece("key", "q")]
    assert splitter.deadline() is None


def test_an_answer_in_two_parts_is_joined():
    splitter = Splitter(ANSI_SEQUENCES_KEYS)
    assert splitter.feed("\x1b]11;rg", 0.0) + splitter.tick(0.4) == []
    assert splitter.feed("b:1/2/3\x1b", 0.4) + splitter.tick(0.9) == []
    assert splitter.feed("\\q", 0.9) == [Piece("key", "q")]


PIECES = st.one_of(
    st.sampled_from([*ANSWERS.values(), *UNREADABLE.values(), "\x1b", "\x1b[", "\x1b]", "\x1bP", "\x1bO", "\x1b[200~"]),
    st.text(max_size=4),
    st.text("\x1b[]PO_^?<>;:0123456789uRMmt~$yc\\\x07\x9b\x9c", max_size=12),
)


@given(parts=st.lists(PIECES, max_size=12), chunks=st.integers(1, 9))
@MANY
def test_any_input_is_harmless_and_keys_work_again_after_a_silence(parts, chunks):
    splitter, parser, now = Splitter(ANSI_SEQUENCES_KEYS), SafeParser(), 0.0
    text = "".join(parts)
    for start in range(0, len(text), chunks):
        now += 0.01
        for piece in splitter.feed(text[start : start + chunks], now):
            parser.messages(piece)
    for _ in range(4):
        if (deadline := splitter.deadline()) is not None:
            now = deadline
            for piece in splitter.tick(now):
                parser.messages(piece)
    assert splitter.deadline() is None
    assert [message.key for piece in splitter.feed("q", now) for message in parser.messages(piece)] == ["q"]


@given(text=st.text(max_size=30).filter(lambda text: "\x1b" not in text), chunks=st.integers(1, 9))
@MANY
def test_typed_text_arrives_character_by_character(text, chunks):
    splitter = Splitter(ANSI_SEQUENCES_KEYS)
    pieces = [
        piece for start in range(0, len(text), chunks) for piece in splitter.feed(text[start : start + chunks], 0.0)
    ]
    if not any(0x80 <= ord(character) < 0xA0 for character in text):
        assert pieces == [Piece("key", character) for character in text]
