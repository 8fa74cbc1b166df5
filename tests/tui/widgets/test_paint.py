"""Lines as strips, and what an app really writes to a terminal at each depth of colour: raw bytes from a pty."""

import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.color import Color as RichColor
from rich.segment import Segment
from rich.style import Style
from textual.color import Color

from tdiff.draw.palettes import DEPTHS
from tdiff.terminal.detect import clipboard_sequence, detect, leave_sequence
from tdiff.tui.line_filters import AsciiOnly, Depth, NoColours, filters
from tdiff.tui.widgets.paint import paint
from tests.support.ptys import Pty, attributes, colour_codes, screen, soon, tmux

FEW = examples(derandomize=True, deadline=None, max_examples=100, database=None)
BLACK = Color(0, 0, 0)

# An app with what tempts textual to write colours: themed widgets, borders, a scrollbar, a modal tint, a toast.
APP = """
import os, sys
from tdiff.terminal import detect
here = detect.this_terminal(color=os.environ.get("ASKED", "auto"), ask=False)
detect.prepare(here, os.environ)
from textual.screen import ModalScreen
from textual.widget import Widget
from textual.widgets import Footer, Input, Label, OptionList
from tdiff.protocol.canvas import Canvas
from tdiff.protocol.trace import TraceHeader, TraceStep
from tdiff.draw.canvas_layout import lay_out
from tdiff.draw.render import drawn_texts, legend, row_line
from tdiff.tui.terminal_app import TerminalApp
from tdiff.tui.widgets.paint import paint

header = dict(version="0", model="m", decoder="topk", settings={}, seed=0, row=0, prompt="", given=[])
canvas = Canvas.begin(TraceHeader(cells=40, **header))
cells = [(n, " ab", 1, n / 32, "commit") for n in range(32)]
canvas.apply(TraceStep(index=1, t=0.5, calls=1, cells=cells))
canvas.apply(TraceStep(index=2, t=0.5, calls=2, cells=[(33, " new", 1, 0.5, "commit"), (2, "", 0, 0.0, "remask")]))

class Field(Widget):
    DEFAULT_CSS = "Field { height: 6; border: round $primary; }"
    def render_line(self, y):
        theme, width = self.app.terminal.theme, self.size.width
        words = [("dim red", "dim red"), ("24 bits", "#fedcba on #123456")]
        rows = lay_out(drawn_texts(canvas, theme), width).rows
        lines = [legend(theme, width), *(row_line(canvas, row, theme) for row in rows), words]
        return paint(lines[y] if y < len(lines) else [], width)

class Ask(ModalScreen):
    BINDINGS = [("q", "app.quit", "Quit")]
    def compose(self):
        yield Label("a question ö")

class Tiny(TerminalApp):
    CSS = "OptionList { height: 1fr; }"
    BINDINGS = [("q", "quit", "Quit"), ("m", "ask", "Ask"), ("y", "copy", "Copy")]
    def compose(self):
        yield Field()
        yield Input("typed", placeholder="here")
        yield OptionList(*(f"choice {n}" for n in range(40)))
        yield Footer()
    def on_mount(self):
        self.query_one(Field).border_title = "a title"
        self.query_one(OptionList).focus()
    def action_ask(self):
        self.notify("a toast")
        self.push_screen(Ask())
    def action_copy(self):
        self.copy_to_clipboard("copied")

Tiny(here).run(mouse=here.mouse)
print("after", file=sys.stderr)
"""
COMMAND = [sys.executable, "-c", APP]
ENV = {"PYTHONPATH": str(Path.cwd()), "COLORTERM": "truecolor"}


@pytest.fixture(scope="module")
def written() -> dict[str, bytes]:
    """What the app writes at each depth; in a terminal that says it knows synchronized output."""
    apps = {depth: Pty(COMMAND, ASKED=depth, **ENV) for depth in DEPTHS}
    apps["screen"] = Pty(COMMAND, STY="1.x", **ENV | {"TERM": "screen.xterm-256color"})
    apps["NO_COLOR"] = Pty(COMMAND, NO_COLOR="1", **ENV)
    apps["C"] = Pty(COMMAND, ASKED="256", **ENV | {"LANG": "C"})
    for app in apps.values():
        app.until(b"Quit")
        app.send(b"\x1b[?2026;2$y" + b"y" + b"m")
    for app in apps.values():
        app.until(b"toast")
        app.until(b"question")
        app.read(0.1)
        app.send(b"q")
    for app in apps.values():
        assert app.end() == 0
    return {depth: app.written for depth, app in apps.items()}


def test_without_colour_not_one_colour_code_is_written_and_attributes_survive(written):
    for name in ("none", "NO_COLOR"):
        assert colour_codes(written[name]) == set()
        assert attributes(written[name]) >= {"1", "2", "4", "7"}


def test_at_16_colours_nothing_but_those_is_written(written):
    few = {str(n) for base in (30, 40, 90, 100) for n in range(base, base + 8)} | {"39", "49"}
    codes = colour_codes(written["16"])
    assert codes <= few and codes >= {"31", "91", "33", "93", "37", "97", "90"}


def test_at_256_colours_nothing_is_of_24_bits_and_entries_of_the_palette_are_kept(written):
    for name in ("256", "screen"):
        codes = colour_codes(written[name])
        assert not [code for code in codes if code.startswith(("38;2", "48;2"))]
        assert codes >= {f"38;5;{n}" for n in (131, 166, 208, 214, 221, 230, 240)} | {"48;5;240"}
    assert "31" in colour_codes(written["256"])  # named colours are the terminal's own


def test_at_full_depth_colours_of_24_bits_are_written_and_entries_of_the_palette_are_kept(written):
    codes = colour_codes(written["truecolor"])
    assert codes >= {"38;5;166", "38;5;230", "38;2;254;220;186", "48;2;18;52;86"}


def test_an_app_in_the_c_locale_writes_ascii_only(written):
    assert written["C"].isascii() and b"a question ?" in written["C"]
    assert "█".encode() in written["256"] and "ö".encode() in written["256"]


def test_screen_gets_no_mouse_and_no_synchronized_frames(written):
    assert b"\x1b[?1000h" in written["256"] and b"\x1b[?1000h" not in written["screen"]
    assert b"\x1b[?2026h" in written["256"] and b"\x1b[?2026h" not in written["screen"]


def test_the_last_frame_is_cleared_before_the_alternate_screen_is_left(written):
    for text in written.values():
        last, _, after = text.rpartition(leave_sequence(detect({"TERM": "xterm"})).encode())
        assert b"Quit" in last and b"\x1b[?1049l" in after and b"Quit" not in after and b"after" in after


def test_what_is_copied_is_wrapped_for_screen(written):
    for name, environ in (("256", {"TERM": "xterm"}), ("screen", {"TERM": "screen", "STY": "1.x"})):
        assert clipboard_sequence(detect(environ), "copied").encode() in written[name]


def test_in_real_screen_nothing_is_left_of_the_last_frame():
    with screen() as session:
        session.start("sh", "-c", '"$0" -c "$1"; sleep 60', sys.executable, APP, **ENV)
        file = session.folder / "hardcopy"

        def shown() -> str:
            session.command("hardcopy", str(file))
            return file.read_bytes().decode("utf-8", "replace") if file.exists() else ""

        assert soon(lambda: "Quit" in shown())
        session.command("stuff", "q")
        assert soon(lambda: shown().split() == ["after"])


def test_in_real_tmux_a_captured_screen_shows_blocks_and_what_was_there_comes_back():
    with tmux() as server:
        keys = ["new-session", "-d", "-x", "80", "-y", "24", "sh", "-c", 'echo before; "$0" -c "$1"; sleep 60']
        server(*keys, sys.executable, APP, **ENV)
        assert soon(lambda: "Quit" in server("capture-pane", "-p") and "█" in server("capture-pane", "-p"))
        server("send-keys", "q")
        assert soon(lambda: server("capture-pane", "-p").split() == ["before", "after"])


# Strips

TEXTS = st.text(st.sampled_from("ab 日é"), max_size=8)
STYLES = st.sampled_from(["", "bold", "dim", "color(166)", "bold color(61) on color(240)", "reverse"])


@given(line=st.lists(st.tuples(TEXTS, STYLES), max_size=6), width=st.integers(0, 20))
@FEW
def test_a_strip_is_as_wide_as_it_should_be_and_shows_the_line(line, width):
    strip = paint(line, width)
    assert strip.cell_length == width == sum(cell_len(segment.text) for segment in strip)
    text = "".join(text for text, _ in line)
    shown = strip.text.rstrip(" ")
    assert text.startswith(shown)
    if cell_len(text) <= width:
        assert strip.text == text + " " * (width - cell_len(text))
    else:
        assert width - cell_len(shown) <= 1 or text[len(shown)] == " "


def test_every_segment_of_a_strip_has_the_base_style():
    strip = paint([("a", "bold"), ("b", "on color(3)")], 4, Style.parse("red on blue"))
    assert [(segment.text, str(segment.style)) for segment in strip] == [
        ("a", "bold red on blue"),
        ("b", "red on color(3)"),
        ("  ", "red on blue"),
    ]


COLOURS = st.none() | st.one_of(
    st.integers(0, 255).map(RichColor.from_ansi),
    st.tuples(*[st.integers(0, 255)] * 3).map(lambda rgb: RichColor.from_rgb(*rgb)),
    st.just(RichColor.default()),
)
ANY_STYLE = st.builds(
    lambda face, ground, attributes: Style(color=face, bgcolor=ground, **dict.fromkeys(attributes, True)),
    COLOURS,
    COLOURS,
    st.sets(st.sampled_from(["bold", "dim", "underline", "reverse"])),
)


def passed(filter, style: Style | None) -> Style | None:
    [segment] = filter.apply([Segment("x", style)], BLACK)
    assert segment.text == "x"
    return segment.style


@given(style=ANY_STYLE)
@FEW
def test_every_style_is_reduced_to_the_depth_and_keeps_its_attributes(style):
    for depth, most in (("256", 256), ("16", 16)):
        shown = passed(Depth(depth), style)
        for colour, before in ((shown.color, style.color), (shown.bgcolor, style.bgcolor)):
            assert (colour is None) == (before is None)
            if colour is not None and not colour.is_default:
                assert colour.triplet is None and colour.number < most
            if (
                before is not None
                and before.number is not None
                and before.number < most
                and style.color != style.bgcolor
            ):
                assert colour.number == before.number or (depth == "16" and colour is shown.color)
        assert shown.without_color == style.without_color
        assert passed(Depth(depth), shown) == shown
    bare = passed(NoColours(), style)
    assert bare.color is None and bare.bgcolor is None and bare == style.without_color


def test_readable_text_stays_readable_at_16_colours():
    for face, ground in (("#005f87", "#00005f"), ("#eeeeee", "#bcbcbc"), ("#303030", "#101010")):
        shown = passed(Depth("16"), Style.parse(f"{face} on {ground}"))
        wide = sum(abs(a - b) for a, b in zip(bytes.fromhex(face[1:]), bytes.fromhex(ground[1:]), strict=True)) > 120
        assert (shown.color.number != shown.bgcolor.number) >= wide
    block = passed(Depth("16"), Style.parse("color(240) on color(240)"))
    assert block.color.number == block.bgcolor.number  # a mask stays a block


def test_no_style_is_no_style():
    for filter in (Depth("16"), Depth("256"), NoColours(), AsciiOnly(True)):
        assert passed(filter, None) is None


@given(text=st.text(st.characters(exclude_categories=["Cc", "Cs"]), max_size=20))
@FEW
def test_ascii_only_keeps_the_width_of_every_segment(text):
    for everything in (True, False):
        [segment] = AsciiOnly(everything).apply([Segment(text)], BLACK)
        assert cell_len(segment.text) == cell_len(text)
        assert segment.text.isascii() or not everything


@pytest.mark.parametrize("depth", DEPTHS)
def test_each_depth_has_its_filter(depth):
    expected = {"truecolor": [], "256": [Depth], "16": [Depth], "none": [NoColours]}[depth]
    assert [type(filter) for filter in filters(detect({"TERM": "xterm"}, color=depth))] == expected
    ascii = filters(detect({"TERM": "xterm"}, color=depth, glyphs="ascii"))
    assert [type(filter) for filter in ascii] == [*expected, AsciiOnly]
