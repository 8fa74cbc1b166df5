"""What `tdiff watch --doctor` prints: what was found out about the terminal, what was chosen, and why."""

from __future__ import annotations

import io
import sys
from dataclasses import replace

from tdiff.draw.palettes import styles
from tdiff.draw.render import Line, in_ascii, legend, plain, style_of
from tdiff.terminal.detect import COLOUR_SYSTEMS, Terminal
from tdiff.visible import visible_line


def doctor(terminal: Terminal, *, styled: bool | None = None, width: int = 80) -> str:
    """A table of the choices, and samples to look at; with `styled` in their colours, else plain text.

    None: styled where standard output is a terminal.
    """
    styled = sys.stdout.isatty() if styled is None else styled
    look = terminal.look
    lines = [in_ascii(line, look) for line in (*_choices(terminal, width), [], *_samples(terminal))]
    if terminal.utf8:
        lines += _GLYPHS
    if not styled or not terminal.interactive:
        return plain(lines) + "\n"
    from rich.console import Console
    from rich.text import Text

    console = Console(
        file=io.StringIO(),
        color_system=COLOUR_SYSTEMS[terminal.colour],  # type: ignore[arg-type]
        no_color=terminal.colour == "none",
        force_terminal=True,
        highlight=False,
        width=width,
        _environ={},
    )
    for line in lines:
        console.print(Text.assemble(*line, no_wrap=True, overflow="crop"), soft_wrap=True)
    drawn = console.file
    assert isinstance(drawn, io.StringIO)
    return drawn.getvalue()


def _choices(terminal: Terminal, width: int) -> list[Line]:
    why = terminal.reasons
    program = {"screen": "GNU screen", "plain": "a plain terminal"}.get(terminal.program, terminal.program)
    wide = {None: "not known", False: "1 cell", True: "2 cells"}[terminal.wide_block]
    rows = [
        ("full screen", _yes(terminal.interactive), why["interactive"]),
        ("inside", f"{program} {terminal.version}".strip(), why["program"]),
        ("over ssh", _yes(terminal.inside_ssh), "$SSH_CONNECTION is set" if terminal.inside_ssh else ""),
        ("UTF-8", _yes(terminal.utf8), why["utf8"]),
        ("colours", terminal.colour, why["colour"]),
        ("glyphs", terminal.glyphs, why["glyphs"]),
        ("width of a block", wide, "the terminal's answer" if terminal.wide_block is not None else ""),
        ("ground", terminal.ground, why["ground"]),
        ("palette", terminal.palette, why["palette"]),
        ("mouse", "on" if terminal.mouse else "off", why["mouse"]),
        ("synchronized", "on" if terminal.synchronized else "off", why["synchronized"]),
    ]
    lines: list[Line] = [[("terminal", "bold")]]
    for name, value, reason in rows:
        value, reason = visible_line(value)[:18], visible_line(reason)[: width - 38]  # some of it is the environment's
        lines.append([(f"  {name:<17}", "dim"), (f"{value:<19}", "bold"), (reason, "")])
    if terminal.remedy:
        lines += [[("to mend", "bold")], [(f"  {terminal.remedy}", "")]]
    return lines


def _samples(terminal: Terminal) -> list[Line]:
    look = terminal.look
    marks = styles(look)
    colourless = replace(look, colour="none")
    levels: Line = [("  ", "")]
    for n, shade in enumerate(styles(colourless).shades):
        levels += [(f"{n / 5:.1f} to {(n + 1) / 5:.1f}", shade), ("   ", "")]
    masks: Line = [
        ("  masked ", ""),
        (marks.mask[0] * 6, marks.mask[1]),
        ("  masked again ", ""),
        (marks.remask[0] * 6, marks.remask[1]),
        ("  new this step ", ""),
        ("bold", style_of(0.9, look, fresh=True)),
    ]
    return [
        [("confidence", "bold")],
        [("  ", ""), *legend(look, 78)],
        masks,
        [("confidence without colour", "bold")],
        levels,
    ]


_GLYPHS: list[Line] = [
    [("glyphs, ten to a line: the bars stand one below the other", "bold")],
    *([(f"  {sample}|", "")] for sample in ("████░░▒▒▓▓", "⣀⡠⠔⠒⠉⠉⠒⠤⣀⣀", "╭─┤·├─╮▲▶◀", "→←↑↓●✓…≥×°", "abcdefghij")),
]


def _yes(value: bool) -> str:
    return "yes" if value else "no"
