"""What is copied can be pasted, in real tmux and GNU screen, and what is said of it is true."""

import base64

import pytest

from tdiff.protocol.events import to_line
from tdiff.protocol.trace import TraceEnd, TraceHeader, TraceStep
from tdiff.terminal.clipboard import Copied, copy_text
from tdiff.terminal.detect import detect
from tests.support.ptys import clean, screen, soon, tmux
from tests.tui.test_terminals import WATCH, place  # noqa: F401  (a fixture)

TEXT = "To be, or not: ä\u2588…"


@pytest.fixture
def trace(place):  # noqa: F811
    """A trace of that text, to be watched without a model."""
    header = TraceHeader(
        version="1", model="m", decoder="d", settings={}, seed=1, row=0, prompt="", cells=len(TEXT), given=[]
    )
    cells = [(n, character, 1, 0.9, "commit") for n, character in enumerate(TEXT)]
    step = TraceStep(index=1, t=0.0, calls=1, cells=cells)
    end = TraceEnd(text=TEXT, model_calls=1, forced=0, tokens=len(TEXT), seconds=1.0)
    (place / "trace.jsonl").write_text("".join(map(to_line, (header, step, end))))
    return place


def test_in_default_tmux_a_copy_is_in_its_buffer_and_sent_to_the_terminal(trace):
    with tmux() as server:
        server("new-session", "-d", "-x", "110", "-y", "24", *WATCH, "trace.jsonl")
        client = server.attach()

        def shown() -> str:
            client.read()
            return server("capture-pane", "-p")

        assert soon(lambda: "To be, or not" in shown()), shown()
        server("send-keys", "y")
        said = f"copied {len(TEXT)} characters to tmux (prefix ] pastes) and sent to the clipboard"
        assert soon(lambda: said in shown()), shown()
        assert server("show-buffer") == TEXT
        assert soon(lambda: client.read() and base64.b64encode(TEXT.encode()) in client.written), "by OSC 52"
        server("send-keys", "q")


def test_in_gnu_screen_a_copy_is_in_its_buffer(trace):
    with screen() as session:
        session.start(*WATCH, "trace.jsonl")
        client = session.attach()
        client.until(b"To be, or not")
        client.send(b"y")
        client.until(b"to GNU screen (ctrl+a ] pastes)")
        file = trace / "pasted"
        session.command("writebuf", "-e", "utf8", str(file))
        assert soon(file.exists)
        assert soon(lambda: file.read_text("utf-8") == TEXT), file.read_bytes()
        client.send(b"q")


def test_an_unconfirmed_copy_is_not_claimed():
    plain = copy_text(detect({"TERM": "xterm-256color"}), "x", {})
    assert plain == Copied()
    assert plain.notice(1, sent=True).startswith("sent 1 character to the terminal, which does not confirm")
    far = detect({"TERM": "tmux-256color"})  # on this side of ssh there is no tmux to ask
    assert far.program == "tmux" and copy_text(far, "x", {}) == Copied()


@pytest.mark.parametrize(
    ("accepts", "expected"),
    [
        ("-w - clipboard", Copied("tmux (prefix ] pastes)", True)),
        ("-w -", Copied("tmux (prefix ] pastes)")),
        ("-", Copied("tmux (prefix ] pastes)")),
        ("nothing", Copied()),
    ],
)
def test_an_old_tmux_still_copies_and_a_missing_one_does_not(tmp_path, accepts, expected):
    program = tmp_path / "tmux"
    old = 'case "$*" in "load-buffer -") cat > "$HELD"; exit 0;; *) exit 1;; esac'
    new = (
        'case "$*" in load-buffer*) cat > "$HELD";; *) echo 256,' + ("clipboard" * ("clipboard" in accepts)) + ";; esac"
    )
    program.write_text("#!/bin/sh\n" + {"-": old, "nothing": "exit 1"}.get(accepts, new) + "\n")
    program.chmod(0o755)
    environ = clean(TMUX="x", TERM="tmux-256color", PATH=f"{tmp_path}:/usr/bin:/bin", HELD=str(tmp_path / "held"))
    assert copy_text(detect(environ), TEXT, environ) == expected
    if expected.buffer:
        assert (tmp_path / "held").read_text("utf-8") == TEXT
