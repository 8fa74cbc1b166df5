"""The output of `tdiff watch --doctor`: the properties of the terminal, the settings for it, and their reasons."""

from __future__ import annotations

import io
import sys
from dataclasses import replace

from tdiff.draw.palettes import styles
from tdiff.draw.render import Line, in_ascii, legend, plain, style_of
from tdiff.terminal.console import console
from tdiff.terminal.detect import Terminal
from tdiff.visible import visible_line


def doctor(terminal: Terminal, *, styled: bool | None = None, width: int = 80) -> str:
    """A table of the settings, and visual samples: in colour with `styled`, else as plain text.

    None: styled where standard output is a terminal.
    """
    styled = sys.stdout.isatty() if styled is None else styled
    theme = terminal.theme
    lines = [in_ascii(line, theme) for line in (*_settings(terminal, width), [], *_samples(terminal))]
    if terminal.utf8:
        lines += _GLYPHS
    if not styled or not terminal.interactive:
        return plain(lines) + "\n"
    from rich.text import Text

    output = io.StringIO()
    styled_console = console(terminal, file=output, force_terminal=True, width=width, _environ={})
    for line in lines:
        styled_console.print(Text.assemble(*line, no_wrap=True, overflow="crop"), soft_wrap=True)
    return output.getvalue()


def _settings(terminal: Terminal, width: int) -> list[Line]:
    reasons = terminal.reasons
    program = {"screen": "GNU screen", "plain": "a plain terminal"}.get(terminal.program, terminal.program)
    wide = {None: "not known", False: "1 cell", True: "2 cells"}[terminal.wide_block]
    rows = [
        ("full screen", _yes(terminal.interactive), reasons["interactive"]),
        ("inside", f"{program} {terminal.version}".strip(), reasons["program"]),
        ("over ssh", _yes(terminal.inside_ssh), "$SSH_CONNECTION is set" if terminal.inside_ssh else ""),
        ("UTF-8", _yes(terminal.utf8), reasons["utf8"]),
        ("colours", terminal.colour, reasons["colour"]),
        ("glyphs", terminal.glyphs, reasons["glyphs"]),
        ("width of a block", wide, "the terminal's answer" if terminal.wide_block is not None else ""),
        ("background", terminal.background, reasons["background"]),
        ("palette", terminal.palette, reasons["palette"]),
        ("mouse", "on" if terminal.mouse else "off", reasons["mouse"]),
        ("synchronized", "on" if terminal.synchronized else "off", reasons["synchronized"]),
    ]
    lines: list[Line] = [[("terminal", "bold")]]
    for name, value, reason in rows:
        value, reason = visible_line(value)[:18], visible_line(reason)[: width - 38]  # parts come from the environment
        lines.append([(f"  {name:<17}", "dim"), (f"{value:<19}", "bold"), (reason, "")])
    if terminal.remedy:
        lines += [[("to improve", "bold")], [(f"  {terminal.remedy}", "")]]
    return lines


def _samples(terminal: Terminal) -> list[Line]:
    theme = terminal.theme
    marks = styles(theme)
    colourless = replace(theme, colour="none")
    levels: Line = [("  ", "")]
    for n, shade in enumerate(styles(colourless).shades):
        levels += [(f"{n / 5:.1f} to {(n + 1) / 5:.1f}", shade), ("   ", "")]
    masks: Line = [
        ("  masked ", ""),
        (marks.mask[0] * 6, marks.mask[1]),
        ("  remasked ", ""),
        (marks.remask[0] * 6, marks.remask[1]),
        ("  new this step ", ""),
        ("bold", style_of(0.9, theme, fresh=True)),
    ]
    return [
        [("confidence", "bold")],
        [("  ", ""), *legend(theme, 78)],
        masks,
        [("confidence without colour", "bold")],
        levels,
    ]


_GLYPHS: list[Line] = [
    [("glyphs, ten in a line: the bars at the end are aligned", "bold")],
    *([(f"  {sample}|", "")] for sample in ("████░░▒▒▓▓", "⣀⡠⠔⠒⠉⠉⠒⠤⣀⣀", "╭─┤·├─╮▲▶◀", "→←↑↓●✓…≥×°", "abcdefghij")),
]


def _yes(value: bool) -> str:
    return "yes" if value else "no"
