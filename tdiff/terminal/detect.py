"""What the terminal can do, and the settings for it: a pure function of the environment and of a few answers.

It draws nothing and imports neither textual nor rich: `prepare` sets what those two read from the environment, and
must run before textual is imported. Unknown properties get a harmless value; every setting has its reason.
"""

from __future__ import annotations

import base64
import codecs
import os
import re
import sys
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, field

from tdiff.draw.palettes import BACKGROUNDS, DEPTHS, GLYPHS, PALETTES, Theme
from tdiff.errors import unknown
from tdiff.terminal.probe import Answers, tmux_version
from tdiff.terminal.probe import ask as ask_terminal

COLOUR_SYSTEMS = {"truecolor": "truecolor", "256": "256", "16": "standard", "none": "standard"}
"""Names of the colour depths in rich and textual; without colour, styles are drawn without their colours."""

# Terminals that show 24-bit colours and do not say so in COLORTERM, which ssh does not forward.
_TRUECOLOUR_TERMS = ("xterm-kitty", "xterm-ghostty", "alacritty", "foot", "wezterm", "contour")
_TERMS_OF_256 = ("xterm", "rxvt", "putty", "konsole", "gnome", "vte", "st", "mintty", "screen", "tmux")
_MONOCHROME_TERMS = ("vt52", "vt100", "vt102", "vt200", "vt220", "vt320", "xterm-mono")
_SET_BY_USER = "set by the user"
_BROKEN_SYNCHRONIZED = re.compile(r"(next-)?3\.7[abc]$")


@dataclass(frozen=True, slots=True, kw_only=True)
class Terminal:
    """The properties of a terminal, and the settings for it."""

    program: str
    """screen, tmux or plain: the program that receives the output first."""
    version: str
    """Version of that program, where it is known."""
    inside_ssh: bool
    interactive: bool
    """Whether a full screen can be drawn: a terminal exists, and it can move its cursor."""
    colour: str
    """One of palettes.DEPTHS."""
    glyphs: str
    """One of palettes.GLYPHS."""
    utf8: bool
    """Whether anything beyond ASCII may be written."""
    mouse: bool
    synchronized: bool
    """Whether a frame may be sent as one synchronized update where the terminal reports that it can."""
    background: str
    """dark or light."""
    palette: str
    """One of palettes.PALETTES."""
    wide_block: bool | None
    """Whether a full block is two cells wide, as frames and arrows are then too; None: not known."""
    remedy: str
    """One line on how to improve it; empty where nothing needs improvement."""
    typed: bytes = b""
    """Input that was typed during the queries; the view reads it first."""
    reasons: Mapping[str, str] = field(default_factory=dict)
    """Name of a setting -> its reason."""

    @property
    def theme(self) -> Theme:
        """The theme that drawing functions use."""
        return Theme(
            palette=self.palette, background=self.background, colour=self.colour, glyphs=self.glyphs, utf8=self.utf8
        )


def detect(
    environ: Mapping[str, str],
    *,
    color: str = "auto",
    glyphs: str = "auto",
    mouse: bool | None = None,
    palette: str = "auto",
    encoding: str = "utf-8",
    tty: bool = True,
    version: str = "",
    probe: Callable[[bool, bool], Answers] | None = None,
) -> Terminal:
    """Detect the properties from the environment; a value that is not "auto" or None is set by the user and used.

    `encoding` is the locale's; `version` is tmux's, where it is known; `tty` says whether a terminal exists; `probe`
    queries it (see probe.ask), and is called at most once. Raises TdiffError for an unknown value.
    """
    for name, value, values in (("color", color, DEPTHS), ("glyphs", glyphs, GLYPHS), ("palette", palette, PALETTES)):
        if value not in ("auto", *values):
            raise unknown(f"--{name}", value, ("auto", *values))
    why: dict[str, str] = {}
    term = environ.get("TERM", "")
    interactive, why["interactive"] = _interactive(term, tty)
    console = term.startswith("linux")
    program, why["program"] = _program(environ)
    answers = Answers()
    if probe and interactive:
        # Old consoles print queries that they do not understand, and screen does not know its background.
        answers = probe(not console, program != "screen")
    if answers.program and answers.program != program:
        identity = f"it is {answers.program}" if answers.program != "plain" else "it is neither screen nor tmux"
        program, why["program"] = answers.program, f"the terminal reports that {identity}"
    version = _version(environ, program, version, answers)
    utf8, why["utf8"] = _utf8(encoding, answers)
    colour, why["colour"] = (color, _SET_BY_USER) if color != "auto" else _colour(environ, program, interactive)
    wide = None if answers.block is None or not utf8 else answers.block > 1
    shown, why["glyphs"] = (glyphs, _SET_BY_USER) if glyphs != "auto" else _glyphs(utf8, console, wide)
    background, why["background"] = _background(environ, palette, answers)
    if palette == "auto":
        palette, why["palette"] = background, f"a {background} background"
    else:
        why["palette"] = _SET_BY_USER
    pointer, why["mouse"] = _mouse(mouse, program, console, interactive)
    synchronized, why["synchronized"] = _synchronized(program, version)
    return Terminal(
        program=program,
        version=version,
        inside_ssh=any(environ.get(name) for name in ("SSH_CONNECTION", "SSH_CLIENT", "SSH_TTY")),
        interactive=interactive,
        colour=colour,
        glyphs=shown,
        utf8=utf8,
        mouse=pointer,
        synchronized=synchronized,
        background=background,
        palette=palette,
        wide_block=wide,
        remedy=_remedy(program, interactive, utf8, shown, wide, tty),
        typed=answers.typed,
        reasons=why,
    )


def _interactive(term: str, tty: bool) -> tuple[bool, str]:
    if not tty:
        return False, "no terminal"
    if term in ("", "dumb", "unknown"):
        return False, f"TERM={term or '(empty)'} cannot move its cursor"
    return True, f"a terminal, TERM={term}"


def _program(environ: Mapping[str, str]) -> tuple[str, str]:
    if environ.get("TMUX"):
        return "tmux", "$TMUX is set"
    if environ.get("STY"):
        return "screen", "$STY is set and $TMUX is not"
    term = environ.get("TERM", "")
    if term.startswith("tmux"):
        return "tmux", f"TERM={term}, from the other end of ssh"
    if term.startswith("screen"):
        return "screen", f"TERM={term}, from the other end of ssh: screen or tmux, and screen can do less"
    return "plain", "neither $STY nor $TMUX is set"


def _version(environ: Mapping[str, str], program: str, tmux: str, answers: Answers) -> str:
    """The version of the program; `tmux` is the version of tmux where the caller knows it."""
    if program != "tmux":
        return answers.version
    if not tmux and environ.get("TERM_PROGRAM") == "tmux":
        return environ.get("TERM_PROGRAM_VERSION", "")
    return tmux


def _utf8(encoding: str, answers: Answers) -> tuple[bool, str]:
    try:
        name = codecs.lookup(encoding).name
    except LookupError:
        name = encoding or "unknown"
    if name != "utf-8":
        return False, f"the locale's encoding is {name}"
    if answers.braille is not None and answers.braille > 2:
        return False, "the terminal shows each byte of UTF-8 as a character"
    return True, "the locale's encoding is UTF-8" + (", and the terminal's" if answers.braille else "")


def _colour(environ: Mapping[str, str], program: str, interactive: bool) -> tuple[str, str]:
    term = environ.get("TERM", "")
    if environ.get("NO_COLOR"):
        return "none", "NO_COLOR is set"
    if not interactive:
        return "none", "a full screen cannot be drawn"
    if program == "screen":
        return "256", "GNU screen misreads 24-bit colours, whatever COLORTERM says"
    if environ.get("STY"):
        return "256", "both $STY and $TMUX are set: GNU screen may be in between, and misreads 24-bit colours"
    if term.startswith(_MONOCHROME_TERMS):
        return "none", f"TERM={term} has no colours"
    colorterm = environ.get("COLORTERM", "").lower()
    if colorterm in ("truecolor", "24bit"):
        return "truecolor", f"COLORTERM={colorterm}"
    if term.endswith("-direct") or term.startswith(_TRUECOLOUR_TERMS):
        return "truecolor", f"TERM={term}"
    if "256color" in term or program == "tmux" or term.split("-")[0] in _TERMS_OF_256:
        return "256", f"TERM={term}"
    return "16", f"TERM={term}"


def _glyphs(utf8: bool, console: bool, wide: bool | None) -> tuple[str, str]:
    if not utf8:
        return "ascii", "not UTF-8"
    if console:
        return "ascii", "the Linux console has no braille"
    if wide:
        return "space", "the terminal draws a block two cells wide"
    return "block", "a block is one cell wide" if wide is False else "the default"


def _background(environ: Mapping[str, str], palette: str, answers: Answers) -> tuple[str, str]:
    if palette in BACKGROUNDS:
        return palette, _SET_BY_USER
    if answers.background:
        return answers.background, "the terminal's answer"
    _, _, last = environ.get("COLORFGBG", "").rpartition(";")
    if last.isdecimal():
        return "light" if int(last) in (7, 15) else "dark", f"COLORFGBG={environ['COLORFGBG']}"
    return "dark", "the default: the terminal does not report it"


def _mouse(mouse: bool | None, program: str, console: bool, interactive: bool) -> tuple[bool, str]:
    if mouse is not None:
        return mouse, _SET_BY_USER
    if not interactive or console:
        return False, "not available here"
    if program == "screen":
        return False, "with a mouse, GNU screen would delay Esc until the next key"
    return True, f"safe in {'a plain terminal' if program == 'plain' else program}"


def _synchronized(program: str, version: str) -> tuple[bool, str]:
    if program == "screen":
        return False, "GNU screen does not support it"
    if program == "tmux" and _BROKEN_SYNCHRONIZED.match(version):
        return False, f"tmux {version} breaks it"
    return True, "if the terminal reports support"


def _remedy(program: str, interactive: bool, utf8: bool, glyphs: str, wide: bool | None, tty: bool) -> str:
    if not interactive:
        advice = "set TERM, such as TERM=xterm-256color" if tty else "run it in a terminal"
        return f"no full screen: {advice}, or use --once"
    if not utf8:
        restart = {"screen": ", then start `screen -U`", "tmux": ", then start `tmux -u`"}
        return f"ASCII only: set a UTF-8 locale (LANG=C.UTF-8){restart.get(program, '')}"
    if wide and glyphs != "ascii":
        return "wide blocks: set the ambiguous width to narrow, or use --glyphs ascii"
    return ""


def this_terminal(
    *, color: str = "auto", glyphs: str = "auto", mouse: bool | None = None, palette: str = "auto", ask: bool = True
) -> Terminal:
    """Detect from the process environment; with `ask` the terminal is queried too (up to 0.2 s where it is silent)."""
    environ = os.environ
    tty = any(stream is not None and stream.isatty() for stream in (sys.__stdout__, sys.__stderr__))
    in_tmux = bool(environ.get("TMUX"))
    return detect(
        environ,
        color=color,
        glyphs=glyphs,
        mouse=mouse,
        palette=palette,
        encoding=locale_encoding(environ, sys.flags.utf8_mode == 1),
        tty=tty,
        version=tmux_version() if in_tmux and environ.get("TERM_PROGRAM") != "tmux" else "",
        probe=ask_terminal if ask else None,
    )


def locale_encoding(environ: Mapping[str, str], utf8_mode: bool = False) -> str:
    """The encoding that the locale names: what the user set for the terminal, not what Python changed it to.

    Under the C locale Python switches to UTF-8 by itself (`utf8_mode`) and sets LC_CTYPE accordingly; the user did not
    ask for that, and it does not change the terminal.
    """
    coerced = utf8_mode and not environ.get("PYTHONUTF8") and environ.get("LC_CTYPE") in ("C.UTF-8", "C.utf8", "UTF-8")
    names = ("LC_ALL", "LANG") if coerced else ("LC_ALL", "LC_CTYPE", "LANG")
    locale = next((environ[name] for name in names if environ.get(name)), "C")
    _, dot, encoding = locale.partition(".")
    if dot:
        return encoding.partition("@")[0]
    return "utf-8" if locale.upper() == "UTF-8" else "ascii"


def prepare(terminal: Terminal, environ: MutableMapping[str, str]) -> None:
    """Set the environment variables of textual and rich. Call it before textual is imported, which reads them once."""
    environ["TEXTUAL_COLOR_SYSTEM"] = COLOUR_SYSTEMS[terminal.colour]
    if terminal.colour == "truecolor":
        environ["COLORTERM"] = "truecolor"
    else:
        environ.pop("COLORTERM", None)
    if terminal.colour == "none":
        environ["NO_COLOR"] = "1"
    else:
        environ.pop("NO_COLOR", None)
    if terminal.program == "screen" or not terminal.utf8:
        environ.setdefault("TEXTUAL_DISABLE_KITTY_KEY", "1")


def leave_sequence(terminal: Terminal) -> str:
    """The last output, before the alternate screen is left.

    An alternate screen is discarded; without one, as in GNU screen by default, the last frame would otherwise stay
    under the shell's prompt.
    """
    return "\x1b[0m\x1b[H\x1b[2J" if terminal.interactive else ""


def clipboard_sequence(terminal: Terminal, text: str) -> str:
    """The sequence that puts `text` on the clipboard of the user's terminal (OSC 52), through screen and tmux."""
    code = base64.b64encode(text.encode("utf-8", "surrogateescape")).decode("ascii")
    bare = f"\x1b]52;c;{code}\x07"
    if terminal.program == "screen":
        # screen forwards the content of a device control string, up to 768 bytes.
        pieces = [bare[i : i + 256] for i in range(0, len(bare), 256)]
        return "".join(f"\x1bP{piece}\x1b\\" for piece in pieces)
    if terminal.program == "tmux":
        # tmux obeys the first with set-clipboard on, and forwards the second with allow-passthrough on.
        return bare + "\x1bPtmux;" + bare.replace("\x1b", "\x1b\x1b") + "\x1b\\"
    return bare
