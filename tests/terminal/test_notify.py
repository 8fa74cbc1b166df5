"""A notification reaches terminals that show it, and all others get the bell; nothing in a text is a sequence."""

import pytest

from tdiff.terminal.detect import detect
from tdiff.terminal.notify import notification, title, title_restored, title_saved
from tests.support.ptys import screen, soon, tmux
from tests.tui.test_terminals import WATCH, place  # noqa: F401  (a fixture)

HOSTILE = "x\x1b]52;c;AAAA\x07\x9c\x1b\\y\n;z"


def sent(text: str = "tdiff: mine: failed", mode: str = "desktop", **environ: str) -> str:
    environ = {"TERM": "xterm-256color"} | environ
    return notification(detect(environ), text, mode, environ)


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, "\a"),
        ({"TERM": "linux"}, "\a"),
        ({"TERM": "dumb"}, ""),
        ({"TERM_PROGRAM": "vscode"}, "\a"),
        ({"WT_SESSION": "1"}, "\a"),
        ({"TERM_PROGRAM": "iTerm.app"}, "\x1b]9;tdiff: mine: failed\a"),
        ({"LC_TERMINAL": "iTerm2"}, "\x1b]9;tdiff: mine: failed\a"),
        ({"TERM": "xterm-kitty"}, "\x1b]9;tdiff: mine: failed\a"),
        ({"TERM": "xterm-ghostty"}, "\x1b]9;tdiff: mine: failed\a"),
        ({"TERM_PROGRAM": "WezTerm"}, "\x1b]9;tdiff: mine: failed\a"),
        ({"TERM": "foot"}, "\x1b]777;notify;tdiff;tdiff: mine: failed\a"),
        ({"TERM": "screen", "STY": "1.x"}, "\a"),
        (
            {"TERM": "screen", "STY": "1.x", "KITTY_WINDOW_ID": "1"},
            "\x1bP\x1b]9;tdiff: mine: failed\a\x1b\\\a",
        ),
        ({"TERM": "tmux-256color", "KITTY_WINDOW_ID": "1"}, "\a"),  # no tmux on this side of ssh answers
    ],
)
def test_notification_is_what_the_terminal_is_known_to_show(environ, expected):
    assert sent(**environ) == expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("on iTerm2 3.5 xterm-256color 3.4", "\x1bPtmux;\x1b\x1b]9;tdiff: mine: failed\a\x1b\\\a"),
        ("all  xterm-kitty 3.4", "\x1bPtmux;\x1b\x1b]9;tdiff: mine: failed\a\x1b\\\a"),
        ("off iTerm2 3.5 xterm-256color 3.4", "\a"),
        ("on  xterm-256color 3.4", "\a"),
        ("", "\a"),
    ],
)
def test_tmux_passes_it_on_only_where_it_allows_that(answer, expected, tmp_path):
    program = tmp_path / "tmux"
    program.write_text(f"#!/bin/sh\necho '{answer}'\n")
    program.chmod(0o755)
    environ = {"TMUX": "/tmp/x,1,0", "PATH": f"{tmp_path}:/usr/bin:/bin", "TERM": "tmux-256color"}
    assert sent(**environ) == expected
    assert sent(mode="bell", **environ) == "\a"
    assert sent(mode="off", **environ) == ""


@pytest.mark.parametrize("term", ["xterm-kitty", "foot", "screen"])
def test_text_cannot_end_the_sequence_or_add_another(term):
    environ = {"TERM": term, "KITTY_WINDOW_ID": "1"} | ({"STY": "1.x"} if term == "screen" else {})
    text = sent(HOSTILE, **environ)
    inner = text.removeprefix("\x1bP").removesuffix("\x1b\\\a" if term == "screen" else "")
    assert inner.count("\x1b") == 1 and inner.count("\a") == 1 and "\x9c" not in text and "\n" not in text
    assert len(sent("x" * 10_000, **environ)) < 700, "GNU screen passes on 768 bytes"


def test_title_is_safe_and_is_restored():
    plain, screen = detect({"TERM": "xterm-256color"}), detect({"TERM": "screen", "STY": "1.x"})
    shown = title(plain, HOSTILE)
    assert shown.startswith("\x1b]2;x ]52") and shown.count("\x1b") == 1 and shown.count("\a") == 1
    assert (title_saved(plain), title_restored(plain)) == ("\x1b[22;2t", "\x1b[23;2t")
    assert (title_saved(screen), title_restored(screen)) == ("", "\x1b]2;\a")
    assert title(detect({"TERM": "linux"}), "x") == title(detect({"TERM": "dumb"}), "x") == ""


def test_in_tmux_the_end_of_a_run_sets_the_title_and_marks_the_window(place):  # noqa: F811
    log = place / "job.log"
    log.write_text("".join(f"step {n}/400 loss {3 - n / 400}\n" for n in range(1, 300)))
    ran = place / "ran"
    command = f"'{WATCH[0]}' -m tdiff watch job.log --on-alert 'cat > {ran}'; echo left; sleep 60"
    with tmux() as server:
        server("new-session", "-d", "-x", "80", "-y", "24", "sh", "-c", command)
        server("set-option", "-g", "monitor-bell", "on")
        client = server.attach()

        def shown() -> str:
            client.read()
            return server("capture-pane", "-p")

        assert soon(lambda: "299/400" in shown()), shown()
        before = server("display-message", "-p", "#{pane_title}")
        server("new-window", "sleep", "60")
        with log.open("a") as file:
            file.write("Traceback (most recent call last):\nRuntimeError: CUDA out of memory\n")
        flags = ["display-message", "-p", "-t", ":0", "#{window_bell_flag} #{pane_title}"]
        assert soon(lambda: server(*flags) == "1 job.log: failed\n"), server(*flags)
        assert soon(ran.exists) and soon(lambda: "RuntimeError: CUDA out of memory" in ran.read_text())
        server("select-window", "-t", ":0")
        server("send-keys", "-t", ":0", "q")
        assert soon(lambda: "left" in shown()), shown()
        assert soon(lambda: server("display-message", "-p", "-t", ":0", "#{pane_title}") == before)


def test_gnu_screen_passes_the_notification_on_to_the_terminal(place):  # noqa: F811
    log = place / "job.log"
    log.write_text("".join(f"step {n}/400 loss {3 - n / 400}\n" for n in range(1, 300)))
    with screen() as session:
        session.start(*WATCH, "job.log", KITTY_WINDOW_ID="1")
        client = session.attach()
        client.until(b"299/400")
        with log.open("a") as file:
            file.write("Traceback (most recent call last):\nRuntimeError: CUDA out of memory\n")
        client.until(b"\x1b]9;tdiff: job.log: failed: RuntimeError: CUDA out of memory (step 299)\x07")
        client.send(b"q")
