"""Reaching a user who looks elsewhere: the terminal's title, its bell, and desktop notifications.

No terminal says whether it shows notifications, so a sequence is sent only to those that are known to: OSC 9 or OSC
777. All others get the bell. tmux and GNU screen pass a sequence on inside a device control string; they get the bell
as well, for which they mark the window.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping

from tdiff.patterns import lazy
from tdiff.terminal.detect import Terminal

MODES = ("desktop", "bell", "off")
"""How alerts are notified."""
_TIME_LIMIT = 0.5
"""Time limit in seconds for an answer of tmux."""
_LENGTH, _TITLE_LENGTH = 200, 60
"""Characters of a notification, and of a title. GNU screen passes on 768 bytes."""
_OSC_9 = ("iterm", "wezterm", "ghostty", "kitty", "warpterminal")
_OSC_777 = ("foot", "contour")
_UNSAFE = lazy(r"[\x00-\x1f\x7f-\x9f]")
_BELL = "\a"


def notification(terminal: Terminal, text: str, mode: str, environ: Mapping[str, str] | None = None) -> str:
    """The sequence that notifies the user; "" for the mode `off`. In tmux this may take half a second."""
    environ = os.environ if environ is None else environ
    if mode == "off" or not terminal.interactive:
        return ""
    if mode == "bell":
        return _BELL
    if terminal.program == "plain":
        return _bare(_names(environ), _safe(terminal, text, _LENGTH)) or _BELL
    outside = _outside_tmux(environ) if terminal.program == "tmux" else _names(environ)
    bare = _bare(outside, _safe(terminal, text, _LENGTH if terminal.program == "tmux" else _LENGTH // 2))
    if not bare:
        return _BELL
    if terminal.program == "screen":
        return f"\x1bP{bare}\x1b\\{_BELL}"
    return "\x1bPtmux;" + bare.replace("\x1b", "\x1b\x1b") + "\x1b\\" + _BELL


def title(terminal: Terminal, text: str) -> str:
    """The sequence that sets the title of the terminal's window; "" where it is not known to be harmless."""
    if not terminal.interactive or terminal.reasons.get("interactive", "").startswith("a terminal, TERM=linux"):
        return ""
    return f"\x1b]2;{_safe(terminal, text, _TITLE_LENGTH)}\a"


def title_saved(terminal: Terminal) -> str:
    """The sequence after which `title_restored` brings the present title back."""
    return "" if terminal.program == "screen" else "\x1b[22;2t"


def title_restored(terminal: Terminal) -> str:
    """The sequence that brings the saved title back; GNU screen cannot save it, and gets an empty one."""
    return "\x1b]2;\a" if terminal.program == "screen" else "\x1b[23;2t"


def _safe(terminal: Terminal, text: str, length: int) -> str:
    """The text without control characters, and without anything that the terminal cannot show."""
    text = _UNSAFE.sub(" ", text)[:length]
    return text if terminal.utf8 else text.encode("ascii", "replace").decode("ascii")


def _names(environ: Mapping[str, str]) -> str:
    """The names that a terminal gives itself in the environment."""
    names = [environ.get(name, "") for name in ("TERM_PROGRAM", "LC_TERMINAL", "TERM")]
    names += [word for word, name in (("kitty", "KITTY_WINDOW_ID"), ("wezterm", "WEZTERM_PANE")) if environ.get(name)]
    return " ".join(names).lower()


def _outside_tmux(environ: Mapping[str, str]) -> str:
    """The names of the terminal around tmux; "" where tmux passes nothing on, or does not answer."""
    if not environ.get("TMUX"):
        return ""  # tmux runs on the other end of ssh
    query = "#{allow-passthrough} #{client_termtype} #{client_termname} #{version}"
    try:
        done = subprocess.run(
            ["tmux", "display-message", "-p", query],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_TIME_LIMIT,
            stdin=subprocess.DEVNULL,
            env=dict(environ),
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    allowed, _, names = done.stdout.strip().lower().partition(" ")
    return names if allowed in ("on", "all", "1") else ""


def _bare(names: str, text: str) -> str:
    """The sequence of a terminal with these names; "" where none is known."""
    if any(name in names for name in _OSC_9):
        return f"\x1b]9;{text}\a"  # the text never begins with a digit, which others read as a command
    if any(name in names for name in _OSC_777):
        return f"\x1b]777;notify;tdiff;{text.replace(';', ',')}\a"
    return ""
