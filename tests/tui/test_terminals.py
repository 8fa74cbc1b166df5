"""`tdiff watch` for real: in tmux, in GNU screen and on a bare pseudo-terminal, with a model's process behind it."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support.classifying import model as model
from tests.support.ptys import Pty, attributes, clean, colour_codes, screen, soon, tmux

WATCH = [sys.executable, "-m", "tdiff", "watch"]
PANES = ("train/loss", "live", "EMA", "confidence low")


def events(count: int = 200) -> str:
    """The log of a run that is over, with a sample."""
    begin = {
        "kind": "start", "time": 1.7e9, "run": "mine", "version": "1", "settings": {}, "corpus": "tale", "tokens": 9,
        "vocabulary": 9, "parameters": 9, "device": "cuda", "threads": 1, "pid": 1, "host": "elsewhere", "steps": count,
    }  # fmt: skip
    lines = [begin]
    lines += [
            {
                "kind": "train", "time": 1.7e9 + step, "step": step, "tokens": step, "loss": 4.0 / (1 + step / 40),
                "loss_by_mask": [None] * 10, "lr": 1e-3, "grad_norm": 1.0, "tokens_per_second": 9.0,
                "progress": step / count, "eta": 1.0,
            }
            for step in range(1, count + 1)
    ]  # fmt: skip
    text = {"kind": "sample", "time": 1.7e9, "step": count, "prompt": "To", "text": "To be", "path": "samples/none"}
    lines += [text, {"kind": "end", "time": 1.7e9 + count, "step": count, "reason": "finished"}]
    return "".join(json.dumps(line) + "\n" for line in lines)


@pytest.fixture
def place(tmp_path, monkeypatch) -> Path:
    """A folder with one run, and empty state and configuration folders."""
    run = tmp_path / "checkpoints" / "mine"
    run.mkdir(parents=True)
    (run / "events.jsonl").write_text(events())
    monkeypatch.setenv("TDIFF_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def children(of: int) -> list[int]:
    """The processes that hold a model, of those below a process."""
    listed = subprocess.run(["ps", "-eo", "pid,ppid,args"], capture_output=True, text=True).stdout
    rows = [line.split(None, 2) for line in listed.splitlines()[1:]]
    found = {of}
    for _ in range(4):
        found |= {int(pid) for pid, parent, _ in rows if int(parent) in found}
    return [int(pid) for pid, _, what in rows if int(pid) in found and " serve " in f"{what} "]


def alive(pid: int) -> bool:
    with contextlib.suppress(OSError):
        os.kill(pid, 0)
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return False


def test_in_tmux_at_80x24_both_panes_show_blocks_resolve_and_the_screen_is_clean_afterwards(place):
    with tmux() as server:
        server("new-session", "-d", "-x", "80", "-y", "24", "sh", "-c", " ".join([*WATCH, "; sleep 60"]))
        client = server.attach()
        seen = []

        def shown() -> str:
            client.read()
            seen.append(server("capture-pane", "-p"))
            return seen[-1]

        assert soon(lambda: all(text in shown() for text in PANES)), seen[-1]
        assert soon(lambda: "█████" in shown(), 60), seen[-1]
        rows = seen[-1].splitlines()
        [first] = [row for row in rows if "train/loss" in row]
        assert len(first) == 80
        server("send-keys", "space")
        assert soon(lambda: "paused" in shown()), seen[-1]
        server("send-keys", "q")
        assert soon(lambda: "tdiff watch --once" in shown()), seen[-1]
        left = [row for row in seen[-1].splitlines() if row.strip()]
        assert len(left) == 3, left
        assert "mine: finished" in left[0]
        assert not colour_codes(client.written) & {code for code in colour_codes(client.written) if ";2;" in code}
        client.send(b"\x02d")


def test_in_screen_with_colorterm_no_24_bit_colour_is_written_esc_works_and_the_screen_is_clean(place):
    with screen() as session:
        session.start("sh", "-c", " ".join([*WATCH, "; sleep 60"]), COLORTERM="truecolor")
        client = session.attach()
        client.until(b"train/loss")
        copy = place / "copy"

        def shown() -> str:
            client.read()
            session.command("hardcopy", str(copy))
            time.sleep(0.1)
            return copy.read_text("utf-8", errors="replace") if copy.exists() else ""

        assert soon(lambda: "EMA" in shown()), shown()
        client.send(b"?")
        assert soon(lambda: "Everywhere" in shown()), shown()
        client.send(b"\x1b")
        assert soon(lambda: "Everywhere" not in shown()), shown()
        client.send(b"q")
        assert soon(lambda: "tdiff watch --once" in shown()), shown()
        assert "EMA" not in shown()
        assert not [code for code in colour_codes(client.written) if ";2;" in code]
        assert b"\x1b[?1003h" not in client.written  # the mouse


TWO = [*WATCH, "--model=shakespeare", "--model=shakespeare", "--decoder=confidence", "--every=0.5"]


def of_two(shown: str) -> bool:
    """Whether two canvases are there, each with the name of its model, one above the other or side by side."""
    return bool(re.search(r"shakespeare\S* \(1\)", shown) and re.search(r"shakespeare\S* \(2\)", shown))


def test_two_models_generate_side_by_side_in_tmux_and_leave_no_process(place):
    with tmux() as server:
        server("new-session", "-d", "-x", "120", "-y", "30", "sh", "-c", " ".join([*TWO, "; sleep 60"]))
        client = server.attach()

        def shown() -> str:
            client.read()
            return server("capture-pane", "-p")

        # A canvas without a text cannot be paused.
        assert soon(lambda: of_two(shown()) and shown().count(" calls ") == 2, 60), shown()
        pid = int(server("display-message", "-p", "#{pane_pid}"))
        models = children(pid)
        assert len(models) == 2
        server("send-keys", "space")
        assert soon(lambda: shown().count("paused") == 2), shown()
        server("send-keys", "q")
        assert soon(lambda: shown().count("generated by") == 2), shown()
        assert soon(lambda: not any(map(alive, models)))
        client.send(b"\x02d")


@pytest.mark.slow
def test_two_models_generate_stacked_in_screen(place):
    with screen() as session:
        session.start("sh", "-c", " ".join([*TWO, "; sleep 60"]))
        client = session.attach()
        copy = place / "copy"

        def shown() -> str:
            client.read()
            session.command("hardcopy", str(copy))
            time.sleep(0.1)
            return copy.read_text("utf-8", errors="replace") if copy.exists() else ""

        assert soon(lambda: of_two(shown()), 60), shown()
        client.send(b"q")
        assert soon(lambda: shown().count("generated by") == 2), shown()
        assert not [code for code in colour_codes(client.written) if ";2;" in code]


def test_live_classification_is_drawn_in_tmux(place, model):
    with tmux() as server:
        classify = ["--classify", "'warm gold sun and dull stone'", f"--model={model}"]
        server("new-session", "-d", "-x", "80", "-y", "24", "sh", "-c", " ".join([*WATCH, *classify, "; sleep 60"]))
        client = server.attach()

        def shown() -> str:
            client.read()
            return server("capture-pane", "-p")

        assert soon(lambda: "% " in shown() and "of at most" in shown(), 60), shown()
        models = children(int(server("display-message", "-p", "#{pane_pid}")))
        server("send-keys", "q")
        assert soon(lambda: " mask samples" in shown() and "of at most" not in shown()), shown()
        assert soon(lambda: not any(map(alive, models)))
        client.send(b"\x02d")


@pytest.mark.parametrize("term", ["dumb", "unknown", ""])
@pytest.mark.parametrize("more", [[], ["--classify", "a text", "--model", "shakespeare"]], ids=["watch", "classify"])
def test_a_terminal_that_cannot_move_its_cursor_is_refused_before_anything_is_drawn(place, term, more):
    pty = Pty([*WATCH, *more], TERM=term)
    assert pty.end() == 2
    assert pty.written.startswith(b"tdiff: tdiff watch draws a full screen, and TERM=") and b"\x1b" not in pty.written
    assert (b"tdiff classify prints predictions" if more else b"--once prints a snapshot instead") in pty.written


def test_without_colour_not_one_code_is_written_and_five_levels_differ(place):
    (place / "trace.jsonl").write_text(trace_of_all_levels())
    pty = Pty([*WATCH, "trace.jsonl"], NO_COLOR="1")
    pty.until(b"confidence low")
    pty.send(b"q")
    assert pty.end() == 0
    assert colour_codes(pty.written) == set()
    assert attributes(pty.written) >= {"1", "2", "4", "7"}


def trace_of_all_levels() -> str:
    text = "levels"
    head = {
        "kind": "trace", "version": "1", "model": "m", "decoder": "topk", "settings": {}, "seed": 1, "row": 0,
        "prompt": "", "cells": len(text), "given": [],
    }  # fmt: skip
    cells = [[n, character, 1, n / 5 if n < 5 else 0.99, "commit"] for n, character in enumerate(text)]
    more = [{"kind": "step", "index": 1, "t": 0.0, "calls": 1, "cells": cells}]
    more += [{"kind": "text", "text": text, "model_calls": 1, "forced": 0, "tokens": 6, "seconds": 1.0}]
    return "".join(json.dumps(line) + "\n" for line in [head, *more])


def test_a_killed_model_is_reported_and_restarted(place):
    pty = Pty([*WATCH], columns=120)
    pty.until(b"train/loss")
    assert soon(lambda: pty.read() and children(pty.pid), 30)
    [model] = children(pty.pid)
    os.kill(model, signal.SIGKILL)
    at = len(pty.written)
    pty.until(b"signal 9", at)
    pty.send(b"R")
    assert soon(lambda: pty.read() and [pid for pid in children(pty.pid) if pid != model], 30)
    pty.send(b"q")
    assert pty.end() == 0
    assert soon(lambda: not alive(model))


def test_a_hang_up_ends_the_view_even_if_its_parent_ignores_hang_ups(place):
    pty = Pty(["sh", "-c", f"trap '' HUP; exec {' '.join(WATCH)}"])
    pty.until(b"train/loss")
    assert soon(lambda: pty.read() and children(pty.pid), 30)
    models = children(pty.pid)
    os.kill(pty.pid, signal.SIGHUP)
    pty.end()
    assert soon(lambda: not any(map(alive, models)), 30)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGKILL], ids=["hangup", "term", "kill"])
def test_the_model_ends_with_the_view(place, number):
    pty = Pty(WATCH)
    pty.until(b"train/loss")
    assert soon(lambda: pty.read() and children(pty.pid), 30)
    models = children(pty.pid)
    os.kill(pty.pid, number)
    assert soon(lambda: (pty.read(), not any(map(alive, models)))[1], 30)
    pty.end()


def test_the_first_frame_is_complete(place):
    pty = Pty(WATCH)
    written = pty.until(b"help").partition(b"\x1b[?1049h")[2].partition(b"help")[0].decode()
    first = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", written)
    assert (first.count("╭"), first.count("╰"), first.count("tdiff watch ")) == (2, 2, 1)
    assert first.count("train/loss") == 1 and first.index("╭") < first.index("│")
    pty.send(b"q")
    assert pty.end() == 0


def test_a_continued_view_draws_again(place):
    pty = Pty(WATCH)
    pty.until(b"train/loss")
    os.kill(pty.pid, signal.SIGSTOP)
    time.sleep(0.5)
    pty.read()
    at = len(pty.written)
    os.kill(pty.pid, signal.SIGCONT)
    pty.send(b"?")
    pty.until(b"Everywhere", at)
    pty.send(b"qq")
    assert pty.end() == 0


def test_a_log_through_a_pipe_is_watched_while_the_keys_come_from_the_terminal(place):
    pty = Pty(["sh", "-c", f"(cat checkpoints/mine/events.jsonl; sleep 6) | {' '.join(WATCH)} - 2>&1"])
    pty.until(b"train/loss")
    pty.send(b"q")
    assert pty.end() == 0


def test_a_snapshot_needs_no_terminal(place):
    def run(*options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*WATCH, *options], env=clean(), capture_output=True, text=True, timeout=60)

    done = run("--once")
    assert (done.returncode, done.stderr) == (0, "")
    assert "mine" in done.stdout
    assert "finished" in done.stdout
    assert "\x1b" not in done.stdout
    data = json.loads(run("--once", "--json").stdout)
    assert (data["name"], data["state"], data["step"]) == ("mine", "finished", 200)
    refused = run()
    assert refused.returncode == 2
    assert re.fullmatch(r"tdiff: .*--once prints a snapshot instead\n", refused.stderr)


@pytest.fixture
def no_torch(tmp_path, monkeypatch) -> None:
    """An environment in which neither torch nor what comes with it can be imported."""
    folder = tmp_path / "without"
    folder.mkdir()
    for name in ("torch", "transformers", "numpy", "safetensors", "tokenizers"):
        (folder / f"{name}.py").write_text(f"raise ImportError('no {name} here')\n")
    monkeypatch.setenv("PYTHONPATH", str(folder))


def test_without_torch_watch_and_guide_work_and_the_missing_model_is_explained(place, no_torch):
    pty = Pty(WATCH, columns=120)
    pty.until(b"train/loss")
    pty.until(b"no torch here")
    pty.send(b"q")
    assert pty.end() == 0
    for words in (["watch", "--once"], ["watch", "--doctor"], ["guide"], ["guide", "watching"]):
        done = subprocess.run([*WATCH[:-1], *words], env=clean(), capture_output=True, text=True, timeout=60)
        assert (done.returncode, done.stderr) == (0, ""), words
        assert done.stdout


def test_in_tmux_the_mouse_moves_a_border_and_the_next_view_begins_with_it(place):
    log = place / "train.log"
    log.write_text("".join(f"step {n} loss {4 / (1 + n / 40):.3f}\n" for n in range(1, 200)))
    shown = ""

    with tmux() as server:
        client = None

        def curve() -> int:
            """The row in which the curve begins."""
            nonlocal shown
            client.read()
            shown = server("capture-pane", "-p")
            rows = [n for n, row in enumerate(shown.splitlines()) if "train/loss" in row]
            return rows[0] if rows else -1

        watch = " ".join([*WATCH, str(log)])
        server("new-session", "-d", "-x", "80", "-y", "24", "sh", "-c", f"{watch}; {watch}; sleep 60")
        client = server.attach()
        assert soon(lambda: curve() == 1 and "╭─ log" in shown), shown
        border = next(n for n, row in enumerate(shown.splitlines()) if "╭─ log" in row)
        for code, row, end in ((0, border, "M"), (32, border - 2, "M"), (32, border - 4, "M"), (0, border - 4, "m")):
            server("send-keys", "-l", f"\x1b[<{code};20;{row + 1}{end}")  # as a terminal reports the mouse
        assert soon(lambda: curve() == 1 and "╭─ log" in shown.splitlines()[border - 4]), shown
        server("send-keys", "3")
        assert soon(lambda: curve() == 1 and "equal size" in shown), shown
        halves = [n for n, row in enumerate(shown.splitlines()) if row.startswith("╭─")]
        server("send-keys", "q")
        assert soon(lambda: curve() == 1 and "equal size" not in shown and "╭─ log" in shown), shown
        assert [n for n, row in enumerate(shown.splitlines()) if row.startswith("╭─")] == halves
        server("send-keys", "q")
        client.send(b"\x02d")
