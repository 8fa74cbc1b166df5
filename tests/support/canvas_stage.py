"""An app with only the canvas widget, and a terminal emulator that applies its output cell by cell."""

import asyncio
import re

from rich.cells import cell_len
from rich.color import ColorSystem
from textual.containers import Vertical
from textual.widgets import Static

from tdiff.draw.palettes import Theme
from tdiff.protocol.canvas import Canvas
from tdiff.protocol.trace import TraceHeader, TraceStep
from tdiff.terminal.detect import detect
from tdiff.tui.terminal_app import TerminalApp
from tdiff.tui.widgets.canvas import CanvasView

TERMINAL = detect({"TERM": "xterm-256color"}, encoding="utf-8")
THEME = TERMINAL.theme


def header(cells: int, given: list[str] | None = None) -> TraceHeader:
    known = {"version": "0", "model": "m", "decoder": "d", "settings": {}, "seed": 0, "row": 0, "prompt": ""}
    return TraceHeader(cells=cells, given=[(n, text, 1) for n, text in enumerate(given or [])], **known)


def step(index: int, *cells: tuple[int, str, float] | int) -> TraceStep:
    """A step of (position, text, confidence) cells; an int is a position that is remasked."""
    full = [(c, "", 0, 0.0, "remask") if isinstance(c, int) else (c[0], c[1], 7, c[2], "commit") for c in cells]
    return TraceStep(index=index, t=0.5, calls=index, cells=full)


def canvas(pieces: list[str | None], given: int = 0) -> Canvas:
    """A canvas of these texts, masked where there is None; the first `given` are the prompt, the others are not new."""
    shown = Canvas.begin(header(len(pieces), [piece or "" for piece in pieces[:given]]))
    shown.apply(step(1, *((n, piece, 0.5) for n, piece in enumerate(pieces) if piece is not None and n >= given)))
    shown.apply(step(2))
    return shown


def letters(text: str) -> Canvas:
    """A canvas with one character per position; █ is a mask."""
    return canvas([None if c == "█" else c for c in text])


class Alone(TerminalApp):
    """An app with only the widget, which writes to a list."""

    CSS = """
    Screen { layers: below above; }
    #toast { layer: above; width: 9; height: 2; offset: 3 1; display: none; }
    #beside { width: 7; display: none; }
    """
    is_headless = False  # so that what would be written is made

    def __init__(self, theme: Theme = THEME) -> None:
        super().__init__(TERMINAL)
        self.view = CanvasView(theme)
        self.written: list[str] = []
        self.lines: list[int] = []
        self.drawn: list[int] = []

    def compose(self):
        with Vertical():
            yield self.view
        yield Static("over there", id="toast")

    def on_mount(self) -> None:
        self._driver.write = self.written.append
        self.console._color_system = ColorSystem.EIGHT_BIT
        line, write = self.view.line, self.view.write
        self.view.line = lambda y: (self.lines.append(y), line(y))[1]
        self.view.write = lambda y, *rest, **more: (self.drawn.append(y), write(y, *rest, **more))[1]

    def wrote(self) -> str:
        """The output since the last call, without the mouse pointer's shape."""
        text = "".join(self.written).replace("\x1b]22;default\x07", "")
        self.written.clear()
        return text

    def rows(self) -> list[str]:
        """The text of the widget's rows, without trailing blanks."""
        return [self.view.full_row(y).text.rstrip() for y in range(self.view.size.height)]


async def settle(pilot) -> None:
    """Wait until all pending output is written."""
    for _ in range(3):  # textual's pause waits until the CPU is idle
        await pilot._wait_for_screen()
        pilot.app.screen._on_timer_update()


def watching(size: tuple[int, int], theme: Theme = THEME):
    """Run a test in the app: `async def test(app, pilot)`."""

    def run(test) -> None:
        async def alone() -> None:
            app = Alone(theme)
            async with app.run_test(size=size) as pilot:
                await settle(pilot)
                await test(app, pilot)

        asyncio.run(alone())

    return run


class Grid:
    """A terminal: the character and the style of each cell. It raises an error for sequences that it does not know."""

    def __init__(self, width: int, height: int) -> None:
        self.width, self.height = width, height
        self.cells = [[(" ", "")] * width for _ in range(height)]
        self.x = self.y = 0
        self.style: tuple[str, ...] = ()

    def feed(self, text: str) -> "Grid":
        for code, end, plain_text in re.findall(r"\x1b\[([0-9;?]*)([A-Za-z])|([^\x1b]|\x1b)", text):
            assert plain_text != "\x1b", "an escape sequence that nobody meant"
            if end == "H":
                row, column = (int(n) for n in code.split(";")) if code else (1, 1)
                self.y, self.x = row - 1, column - 1
            elif end == "C":
                self.x += int(code or 1)
            elif end == "m":
                self._style(code)
            elif plain_text == "\n":
                self.y, self.x = min(self.y + 1, self.height - 1), 0
            elif plain_text:
                self._put(plain_text)
            else:
                raise AssertionError(f"unknown sequence {code}{end}")
        assert self.style == (), "a style is left behind"
        return self

    def _style(self, code: str) -> None:
        parts = re.findall(r"[34]8;[25];\d+(?:;\d+;\d+)?|\d+", code)
        for part in parts:
            if part == "0":
                self.style = ()
            else:
                kind = part[:2] if len(part) > 2 else part
                kept = tuple(one for one in self.style if one != part and not (len(kind) > 1 and one[:2] == kind[:2]))
                self.style = tuple(sorted((*kept, part)))

    def _put(self, character: str) -> None:
        size = cell_len(character)
        row = self.cells[self.y]
        if not size and not self.x:
            return  # no character before it
        if not size:
            at = self.x - 1 if row[self.x - 1][0] else self.x - 2
            row[at] = (row[at][0] + character, row[at][1])
            return
        assert self.x + size <= self.width, "written beyond the edge"
        for at in range(self.x, self.x + size):
            if row[at][0] == "" and at > 0:  # half a wide character is no character
                row[at - 1] = (" ", row[at - 1][1])
            if at + 1 < self.width and row[at + 1][0] == "":
                row[at + 1] = (" ", row[at + 1][1])
        row[self.x] = (character, ";".join(self.style))
        if size == 2:
            row[self.x + 1] = ("", ";".join(self.style))
        self.x += size


def meant(app: Alone) -> list[list[tuple[str, str]]]:
    """The cells of the screen as textual itself draws them."""
    width, height = app.size
    grid = Grid(width, height)
    for y, strip in enumerate(app.screen._compositor.render_strips()):
        grid.y, grid.x = y, 0
        grid.feed(type(strip)(list(strip)).render(app.console))
    return grid.cells


def differences(grid: Grid, app: Alone) -> list[object]:
    """The cells of the terminal that differ from the expected ones: position, actual, expected."""
    pairs = zip(grid.cells, meant(app), strict=True)
    return [
        (x, y, *pair)
        for y, rows in enumerate(pairs)
        for x, pair in enumerate(zip(*rows, strict=True))
        if pair[0] != pair[1]
    ]
