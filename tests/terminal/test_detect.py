"""What a terminal is found to be, what is chosen for it, and what is asked of it and written to it: pure and real."""

import base64
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from tdiff.draw.palettes import DEPTHS, GLYPHS, PALETTES
from tdiff.errors import TdiffError
from tdiff.terminal import attached
from tdiff.terminal.detect import clipboard_sequence, detect, leave_sequence, locale_encoding, prepare, this_terminal
from tdiff.terminal.doctor import doctor
from tdiff.terminal.probe import Answers
from tests.support.ptys import Pty, attributes, clean, colour_codes, screen, short_folder, soon, tmux

FEW = examples(derandomize=True, deadline=None, max_examples=100, database=None)
XTERM = {"TERM": "xterm-256color"}
SCREEN = {"TERM": "screen", "STY": "123.tty", "COLORTERM": "truecolor"}
TMUX = {"TERM": "tmux-256color", "TMUX": "/tmp/t,1,0", "TMUX_PANE": "%0"}


def said(**answers):
    """A probe that answers so."""
    return lambda query_program, query_background: Answers(**answers)


# What is chosen


@pytest.mark.parametrize(
    ("environ", "colour"),
    [
        ({"TERM": "xterm-256color"}, "256"),
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor"}, "truecolor"),
        ({"TERM": "xterm-256color", "COLORTERM": "24bit"}, "truecolor"),
        ({"TERM": "xterm-kitty"}, "truecolor"),
        ({"TERM": "xterm-direct"}, "truecolor"),
        ({"TERM": "xterm"}, "256"),
        ({"TERM": "screen", "STY": "1.a", "COLORTERM": "truecolor"}, "256"),
        ({"TERM": "screen.xterm-256color", "STY": "1.a", "COLORTERM": "truecolor"}, "256"),
        ({"TERM": "screen", "COLORTERM": "truecolor"}, "256"),  # from the other end of ssh
        ({"TERM": "tmux-256color", "TMUX": "/t,1,0", "COLORTERM": "truecolor"}, "truecolor"),
        ({"TERM": "screen", "TMUX": "/t,1,0"}, "256"),
        ({"TERM": "screen", "TMUX": "/t,1,0", "STY": "1.a", "COLORTERM": "truecolor"}, "256"),
        ({"TERM": "linux"}, "16"),
        ({"TERM": "ansi"}, "16"),
        ({"TERM": "vt220"}, "none"),
        ({"TERM": "dumb", "COLORTERM": "truecolor"}, "none"),
        ({}, "none"),
        ({"TERM": "xterm-256color", "COLORTERM": "truecolor", "NO_COLOR": "1"}, "none"),
        ({"TERM": "xterm-256color", "NO_COLOR": ""}, "256"),  # it counts when it is not empty
        ({"TERM": "screen", "STY": "1.a", "NO_COLOR": "1"}, "none"),
    ],
)
def test_the_depth_of_colour_follows_from_the_environment(environ, colour):
    found = detect(environ)
    assert found.colour == colour and found.reasons["colour"]


@pytest.mark.parametrize(
    ("environ", "program"),
    [
        (XTERM, "plain"),
        (SCREEN, "screen"),
        (TMUX, "tmux"),
        (SCREEN | TMUX, "tmux"),
        ({"TERM": "screen-256color"}, "screen"),
        ({"TERM": "tmux-256color"}, "tmux"),
    ],
)
def test_the_program_follows_from_the_environment(environ, program):
    assert detect(environ).program == program


def test_the_terminals_identity_overrides_the_environment():
    inside = detect(SCREEN | TMUX, probe=said(program="screen", version="4.09.00"))  # screen within tmux
    assert (inside.program, inside.version, inside.colour, inside.mouse) == ("screen", "4.09.00", "256", False)
    assert detect({"TERM": "screen-256color"}, probe=said(program="tmux")).program == "tmux"
    inherited = detect(SCREEN | {"TERM": "xterm-256color"}, probe=said(program="plain"))  # opened from within screen
    assert (inherited.program, inherited.mouse) == ("plain", True)


def test_in_screen_the_mouse_is_off_unless_set():
    assert [detect(environ).mouse for environ in (XTERM, TMUX, SCREEN)] == [True, True, False]
    assert detect(SCREEN, mouse=True).mouse and not detect(XTERM, mouse=False).mouse


@pytest.mark.parametrize(
    ("version", "synchronized"),
    [("3.3a", True), ("3.6", True), ("3.7", True), ("3.7a", False), ("3.7b", False), ("3.7c", False), ("3.7d", True)],
)
def test_synchronized_output_is_off_in_the_versions_of_tmux_that_break_it(version, synchronized):
    assert detect(TMUX, version=version).synchronized == synchronized
    detected = detect(TMUX | {"TERM_PROGRAM": "tmux", "TERM_PROGRAM_VERSION": version})
    assert (detected.version, detected.synchronized) == (version, synchronized)
    assert detect(XTERM | {"TERM_PROGRAM": "x", "TERM_PROGRAM_VERSION": version}).synchronized
    assert not detect(SCREEN).synchronized


@pytest.mark.parametrize("encoding", ["ascii", "ANSI_X3.4-1968", "iso-8859-1", "latin-1", "", "nonsense"])
def test_without_utf8_everything_is_ascii_and_one_line_says_what_to_do(encoding):
    for environ, cure in ((XTERM, "LANG"), (SCREEN, "screen -U"), (TMUX, "tmux -u")):
        found = detect(environ, encoding=encoding)
        assert (found.glyphs, found.utf8) == ("ascii", False)
        assert cure in found.remedy and "UTF-8" in found.remedy
        assert "\n" not in found.remedy and len(found.remedy) <= 76


@pytest.mark.parametrize("encoding", ["utf-8", "UTF8", "utf_8"])
def test_with_utf8_masks_are_blocks_and_there_is_no_remedy(encoding):
    found = detect(XTERM, encoding=encoding)
    assert (found.glyphs, found.utf8, found.wide_block, found.remedy) == ("block", True, None, "")


def test_a_terminal_that_draws_blocks_two_wide_gets_spaces():
    found = detect(XTERM, probe=said(block=2, braille=1))
    assert (found.glyphs, found.wide_block) == ("space", True) and "narrow" in found.remedy
    assert detect(XTERM, probe=said(block=1, braille=1)).glyphs == "block"
    assert detect(XTERM, probe=said(block=2, braille=1), glyphs="block").glyphs == "block"


def test_a_terminal_that_shows_bytes_as_characters_gets_ascii_in_any_locale():
    found = detect(SCREEN, probe=said(block=1, braille=3))
    assert (found.glyphs, found.utf8, found.wide_block) == ("ascii", False, None) and "screen -U" in found.remedy


def test_the_linux_console_gets_ascii_and_no_mouse():
    found = detect({"TERM": "linux"})
    assert (found.glyphs, found.utf8, found.mouse) == ("ascii", True, False)


@pytest.mark.parametrize(
    ("environ", "answer", "background"),
    [
        (XTERM, "", "dark"),
        (XTERM | {"COLORFGBG": "15;0"}, "", "dark"),
        (XTERM | {"COLORFGBG": "0;15"}, "", "light"),
        (XTERM | {"COLORFGBG": "0;default;15"}, "", "light"),
        (XTERM | {"COLORFGBG": "0;default"}, "", "dark"),
        (XTERM | {"COLORFGBG": "15;0"}, "light", "light"),
        (XTERM, "dark", "dark"),
    ],
)
def test_the_palette_follows_the_background(environ, answer, background):
    found = detect(environ, probe=said(background=answer))
    assert (found.background, found.palette, found.theme.palette) == (background, background, background)
    chosen = detect(environ, probe=said(background=answer), palette="traffic")
    assert (chosen.background, chosen.palette) == (background, "traffic")


def test_a_palette_set_by_the_user_implies_the_background():
    assert [detect(XTERM, palette=name).background for name in ("dark", "light")] == ["dark", "light"]


def test_the_probe_runs_once_with_harmless_queries_only():
    asked = []

    def probe(query_program, query_background):
        asked.append((query_program, query_background))
        return Answers()

    for environ in (XTERM, SCREEN, {"TERM": "linux"}):
        detect(environ, probe=probe)
    assert asked == [(True, True), (True, False), (False, True)]
    asked.clear()
    for environ, tty in (({"TERM": "dumb"}, True), ({}, True), (XTERM, False)):
        assert not detect(environ, tty=tty, probe=probe).interactive
    assert asked == []


def test_without_a_terminal_that_moves_its_cursor_the_remedy_says_what_to_do():
    assert "--once" in detect(XTERM, tty=False).remedy
    assert "TERM=" in detect({"TERM": "dumb"}).remedy and "TERM=" in detect({}).remedy


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"color": "25"}, "256"),
        ({"glyphs": "blocks"}, "block"),
        ({"palette": "ligth"}, "light"),
        ({"color": "x"}, "16"),
    ],
)
def test_an_unknown_setting_is_refused_with_the_nearest_one(options, named):
    with pytest.raises(TdiffError) as refused:
        detect(XTERM, **options)
    assert named in str(refused.value) and f"--{next(iter(options))}" in str(refused.value)


ENVIRON = st.fixed_dictionaries(
    {},
    optional={
        "TERM": st.sampled_from(
            ["", "dumb", "linux", "xterm", "xterm-256color", "screen", "tmux-256color", "vt100", "?"]
        ),
        "COLORTERM": st.sampled_from(["", "truecolor", "24bit", "x"]),
        "STY": st.sampled_from(["", "1.a"]),
        "TMUX": st.sampled_from(["", "/t,1,0"]),
        "NO_COLOR": st.sampled_from(["", "1"]),
        "COLORFGBG": st.text(max_size=6),
        "TERM_PROGRAM": st.sampled_from(["tmux", "x"]),
        "TERM_PROGRAM_VERSION": st.text(max_size=6),
    },
)
ANSWERS = st.builds(
    Answers,
    block=st.none() | st.integers(1, 3),
    braille=st.none() | st.integers(1, 3),
    background=st.sampled_from(["", "dark", "light"]),
    program=st.sampled_from(["", "screen", "tmux", "plain"]),
)


@given(environ=ENVIRON, answers=ANSWERS, tty=st.booleans(), encoding=st.sampled_from(["utf-8", "ascii", ""]))
@FEW
def test_every_environment_gives_known_settings_with_reasons(environ, answers, tty, encoding):
    found = detect(environ, probe=lambda query_program, query_background: answers, tty=tty, encoding=encoding)
    assert found.colour in DEPTHS and found.glyphs in GLYPHS and found.palette in PALETTES
    assert found.program in ("screen", "tmux", "plain") and found.background in ("dark", "light")
    assert all(found.reasons.values()) and "\n" not in found.remedy and len(found.remedy) <= 76
    if found.program == "screen":
        assert found.colour in ("256", "none") and not found.mouse
    if environ.get("NO_COLOR"):
        assert found.colour == "none"
    if not found.utf8:
        assert found.glyphs == "ascii" and found.remedy
    text = doctor(found, styled=False)
    assert found.remedy in text and all(len(line) <= 80 for line in text.splitlines())
    assert found.utf8 or text.isascii()


@given(
    environ=ENVIRON,
    color=st.sampled_from(DEPTHS),
    glyphs=st.sampled_from(GLYPHS),
    palette=st.sampled_from(PALETTES),
    mouse=st.booleans(),
)
@FEW
def test_settings_of_the_user_are_used(environ, color, glyphs, palette, mouse):
    found = detect(environ, color=color, glyphs=glyphs, palette=palette, mouse=mouse)
    assert (found.colour, found.glyphs, found.palette, found.mouse) == (color, glyphs, palette, mouse)


@pytest.mark.parametrize(
    ("environ", "mode", "encoding"),
    [
        ({"LANG": "C.UTF-8"}, False, "UTF-8"),
        ({"LANG": "en_GB.utf8@euro"}, False, "utf8"),
        ({"LANG": "C"}, False, "ascii"),
        ({}, True, "ascii"),
        ({"LANG": "de_DE.ISO-8859-1"}, False, "ISO-8859-1"),
        ({"LANG": "C", "LC_CTYPE": "C.UTF-8"}, False, "UTF-8"),  # a user's wish
        ({"LANG": "C", "LC_CTYPE": "C.UTF-8"}, True, "ascii"),  # Python's own doing
        ({"LANG": "C", "LC_CTYPE": "UTF-8"}, False, "utf-8"),  # as macOS has it
        ({"LANG": "C", "LC_CTYPE": "C.UTF-8", "PYTHONUTF8": "1"}, True, "UTF-8"),
        ({"LANG": "C.UTF-8", "LC_ALL": "C"}, False, "ascii"),
        ({"LANG": "C", "LC_ALL": "C.UTF-8"}, True, "UTF-8"),
        ({"LANG": "C.UTF-8", "LC_ALL": ""}, False, "UTF-8"),
    ],
)
def test_the_encoding_is_what_the_locale_names(environ, mode, encoding):
    assert locale_encoding(environ, mode) == encoding


@pytest.mark.parametrize("lang", ["C", "C.UTF-8", "POSIX", ""])
def test_the_encoding_of_a_real_process_ignores_pythons_utf8_mode(lang):
    code = "from tdiff.terminal import detect; print(detect.this_terminal(ask=False).utf8)"
    done = subprocess.run(
        [sys.executable, "-c", code], env=clean(LANG=lang), capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == str(lang == "C.UTF-8")


# What textual reads


@pytest.mark.parametrize(
    ("colour", "system"), [("truecolor", "truecolor"), ("256", "256"), ("16", "standard"), ("none", "standard")]
)
def test_prepare_sets_the_environment_of_textual(colour, system):
    before = {"COLORTERM": "24bit" if colour == "none" else "truecolor", "NO_COLOR": "", "TEXTUAL_COLOR_SYSTEM": "auto"}
    environ = dict(before)
    prepare(detect(XTERM, color=colour), environ)
    assert environ["TEXTUAL_COLOR_SYSTEM"] == system
    assert environ.get("COLORTERM") == ("truecolor" if colour == "truecolor" else None)
    assert environ.get("NO_COLOR") == ("1" if colour == "none" else None)


def test_detection_imports_neither_textual_nor_rich_nor_torch():
    heavy = {"textual", "rich", "torch"}
    code = f"import sys, tdiff.terminal.detect as t; t.this_terminal(ask=False); print({heavy} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], env=clean(), capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# What is written


def test_leaving_clears_where_anything_was_drawn():
    assert leave_sequence(detect(SCREEN)) == "\x1b[0m\x1b[H\x1b[2J"
    assert leave_sequence(detect(XTERM, tty=False)) == ""


@given(text=st.text(max_size=2000))
@FEW
def test_the_clipboard_gets_the_text_through_screen_and_tmux(text):
    bare = clipboard_sequence(detect(XTERM), text)
    code = re.fullmatch(r"\x1b\]52;c;([A-Za-z0-9+/=]*)\x07", bare)[1]
    assert base64.b64decode(code).decode("utf-8", "surrogateescape") == text
    wrapped = clipboard_sequence(detect(SCREEN), text)
    pieces = re.findall(r"\x1bP(.*?)\x1b\\", wrapped, re.S)
    assert "".join(pieces) == bare and max(map(len, pieces)) < 768
    assert "".join(f"\x1bP{piece}\x1b\\" for piece in pieces) == wrapped
    both = clipboard_sequence(detect(TMUX), text)
    assert both.startswith(bare) and both.endswith("\x1b\\")
    assert both.removeprefix(bare + "\x1bPtmux;").removesuffix("\x1b\\").replace("\x1b\x1b", "\x1b") == bare


@pytest.mark.parametrize("colour", DEPTHS)
def test_the_doctor_shows_the_palette_in_its_colours_and_the_levels_without(colour):
    text = doctor(detect(XTERM, color=colour), styled=True).encode()
    assert attributes(text) >= {"1", "2", "4", "7"}
    codes = colour_codes(text)
    assert not any(code.startswith(("38;2", "48;2")) for code in codes)
    if colour == "none":
        assert codes == set()
    elif colour == "16":
        assert codes and all(";" not in code for code in codes)
    else:
        assert codes >= {f"38;5;{n}" for n in (131, 166, 208, 214, 221, 230)}
    assert "\x1b" not in doctor(detect(XTERM, color=colour), styled=False)


# What is asked

ASK = """
import sys, termios, time
from tdiff.terminal.probe import ask
fd = sys.stdin.fileno()
before = termios.tcgetattr(fd)
begun = time.monotonic()
answers = ask(%s)
took = time.monotonic() - begun
print("answers", answers, "same", termios.tcgetattr(fd) == before, "quick", took < 5, "end")
print("next", repr(sys.stdin.readline()), "done")
"""


WHO = b"\x1b[>c\x1b[6n"


def asked(replies: dict[bytes, bytes], how: str = "limit=20") -> tuple[str, bytes]:
    """What `ask` finds in a terminal that replies so to what ends so, and all that was written to that terminal."""
    child = Pty([sys.executable, "-c", ASK % how])
    for question, reply in replies.items():
        child.until(question)
        child.send(reply)
    child.until(b"end")
    child.send(b"typed\n")
    child.until(b"done")
    assert child.end() == 0
    text = child.written.decode()
    assert "same True" in text and "next 'typed\\n'" in text  # the answers were swallowed, the settings are as before
    return text, child.written.split(b"answers")[0]


def test_the_probe_queries_widths_background_and_program():
    background = b"\x1b]11;rgb:ffff/ffff/eeee\x1b\\"
    text, written = asked(
        {b"\x1b[K": b"\x1b[7;1R\x1b[7;3R\x1b[7;4R", b"\x1b[>c\x1b[6n": background + b"\x1b[>0;95;0c\x1b[7;1R"}
    )
    assert "block=2, braille=1, background='light', program='plain'" in text
    assert b"R" not in written  # nothing was echoed
    assert written.index(b"\x1b7") < written.index("█".encode()) < written.index(b"\x1b8\x1b[K")  # and it is wiped out


def test_screen_and_tmux_report_their_identity():
    places = b"\x1b[1;1R\x1b[1;2R\x1b[1;3R"
    text, written = asked(
        {b"\x1b[K": places, b"\x1b[>c\x1b[6n": b"\x1b[>83;40900;0c\x1b[1;1R"}, "query_background=False, limit=20"
    )
    assert "program='screen', version='4.09.00'" in text and b"]11" not in written
    text, _ = asked({b"\x1b[K": places, WHO: b"\x1b[>84;0;0c\x1b[1;1R"})
    assert "program='tmux', version=''" in text


def test_a_silent_terminal_does_not_block():
    text, written = asked({b"\x1b[K": b""}, "limit=0.05")
    assert "block=None, braille=None, background='', program=''" in text and "quick True" in text
    assert b"[>c" not in written  # an answer to this that comes late would be taken for keys


def test_without_a_terminal_there_is_no_query():
    code = "from tdiff.terminal.probe import ask, Answers; print(ask() == Answers())"
    done = subprocess.run(
        [sys.executable, "-c", code], env=clean(), capture_output=True, text=True, check=True, start_new_session=True
    )
    assert done.stdout == "True\n"


HERE = (
    "from tdiff.terminal import detect; t = detect.this_terminal(); "
    "print(t.program, t.version or '-', t.colour, t.glyphs, t.mouse)"
)
TELL = ["sh", "-c", '"$0" -c "$1" > "$2.new"; mv "$2.new" "$2"; sleep 60', sys.executable, HERE]


def detected_in(run, folder: Path, name: str) -> list[str]:
    """What `this_terminal` detects where `run` runs a command."""
    file = folder / name
    run(*TELL, str(file))
    assert soon(file.exists)
    return file.read_text().split()


def test_real_screen_is_recognised_with_and_without_utf8():
    with screen() as session:

        def run(*command, **how):
            session.start(*command, COLORTERM="truecolor", PYTHONPATH=str(Path.cwd()), **how)

        program, version, *rest = detected_in(run, session.folder, "utf8")
        assert program == "screen" and re.fullmatch(r"\d+\.\d\d\.\d\d", version) and rest == ["256", "block", "False"]
        session.command("quit")
        assert soon(lambda: not list(session.folder.glob("*.s")))
        # Not UTF-8, though the locale within says so: as a session that cron began.
        found = detected_in(
            lambda *command: run("env", "LC_ALL=C.UTF-8", *command, options=(), LANG="C"), session.folder, "c"
        )
        assert found[0] == "screen" and found[2:] == ["256", "ascii", "False"]


def test_real_tmux_is_recognised():
    with tmux() as server:

        def run(*command):
            server("new-session", "-d", *command, COLORTERM="truecolor", PYTHONPATH=str(Path.cwd()))

        program, version, *rest = detected_in(run, Path(server.socket).parent, "told")
        assert program == "tmux" and version[0].isdigit() and rest == ["truecolor", "block", "True"]
        assert server("-V").split()[1] == version


# Is anybody looking?


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_plain_terminal_is_always_attached():
    assert attached.Attached("plain", {}).now()
    assert attached.Attached("screen", {"TERM": "screen"}).now()  # at the other end of ssh
    assert attached.Attached("tmux", {"TERM": "tmux"}).now()


def test_the_socket_of_screen_says_whether_it_is_attached():
    with short_folder() as folder:
        socket = folder / "123.work"
        socket.touch(mode=0o600)
        clock = Clock()
        watch = attached.Attached("screen", {"SCREENDIR": str(folder), "STY": "123.work"}, clock)
        assert not watch.now()
        socket.chmod(0o700)
        assert not watch.now()  # an answer holds for a while, this one not for long
        clock.now += 0.2
        assert watch.now()
        socket.chmod(0o600)
        clock.now += 0.9
        assert watch.now()
        clock.now += 0.1
        assert not watch.now()
        socket.rename(folder / "123.other")  # the session was given another name
        clock.now += 1
        assert not watch.now()
        (folder / "123.other").chmod(0o700)
        clock.now += 1
        assert watch.now()
        (folder / "123.other").unlink()
        clock.now += 1
        assert watch.now()  # what cannot be known counts as attached


def test_a_missing_session_counts_as_attached():
    with short_folder() as folder:
        assert attached.Attached("screen", {"SCREENDIR": str(folder), "STY": "1.x", "HOME": str(folder)}).now()
        assert attached.Attached("tmux", {"TMUX": f"{folder}/t,1,0"}).now()


def test_real_screen_is_followed_through_attach_and_detach():
    with screen() as session:
        session.start("sleep", "60")
        assert soon(lambda: list(session.folder.glob("*.s")))
        clock = Clock()
        name = next(session.folder.glob("*.s")).name
        watch = attached.Attached("screen", {"STY": name, "SCREENDIR": str(session.folder)}, clock)

        def now() -> bool:
            clock.now += 1
            return watch.now()

        assert soon(lambda: not now())
        viewer = session.attach()
        assert soon(now)
        viewer.send(b"\x01d")
        viewer.end()
        assert soon(lambda: not now())


def test_real_tmux_is_followed_per_session_without_blocking():
    with tmux() as server:
        server("new-session", "-d", "-s", "ours", "-x", "80", "-y", "24", "sleep 60")
        server("new-session", "-d", "-s", "theirs", "-x", "80", "-y", "24", "sleep 60")
        pane = server("display-message", "-p", "-t", "ours", "#{pane_id}").strip()
        clock = Clock()
        watch = attached.Attached("tmux", {"TMUX": f"{server.socket},1,0", "TMUX_PANE": pane}, clock)
        watch._tmux._tty = ""  # this process stands outside: its own terminal is no pane's

        def now() -> bool:
            clock.now += 2
            return watch.now()

        assert soon(lambda: not now())  # no terminal is attached
        elsewhere = server.attach("-t", "theirs")
        elsewhere.until(b"\x1b[")
        assert soon(now)  # until tmux has answered
        assert soon(lambda: not now())
        here = server.attach("-t", "ours")
        here.until(b"\x1b[")
        assert soon(now)
        for viewer in (here, elsewhere):
            viewer.send(b"\x02d")
            viewer.end()
        assert soon(lambda: not now())
        watch.close()


WATCH = """
import itertools, sys, time
from tdiff.terminal.attached import Attached
watch = Attached("tmux", clock=itertools.count(100, 2).__next__)
for _ in range(200):
    print(watch.now(), file=open(sys.argv[1], "a"))
    time.sleep(0.1)
"""


def test_a_program_in_tmux_queries_its_pane():
    with tmux() as server:
        server("new-session", "-d", "-s", "theirs", "sleep 60")
        viewer = server.attach("-t", "theirs")
        viewer.until(b"\x1b[")
        file = Path(server.socket).parent / "told"
        server("new-session", "-d", "-s", "ours", sys.executable, "-c", WATCH, str(file), PYTHONPATH=str(Path.cwd()))
        assert soon(lambda: file.exists() and file.read_text().endswith("False\n"))
        assert file.read_text().startswith("True\n")  # not known yet
        viewer.send(b"\x02d")
        viewer.end()


def test_a_terminal_that_only_inherited_tmux_is_always_attached():
    with tmux() as server:
        server("new-session", "-d", "-s", "ours", "sleep 60")
        server("new-session", "-d", "-s", "theirs", "sleep 60")
        pane = server("display-message", "-p", "-t", "ours", "#{pane_id}").strip()
        clock = Clock()
        watch = attached.Attached("tmux", {"TMUX": f"{server.socket},1,0", "TMUX_PANE": pane}, clock)
        watch._tmux._tty = "/dev/pts/none"
        viewer = server.attach("-t", "theirs")
        viewer.until(b"\x1b[")

        def answered() -> bool:
            clock.now += 2
            watch.now()
            return watch._tmux._asked > 0 and watch._tmux._child is None

        assert soon(answered) and watch.now()
        viewer.send(b"\x02d")
        viewer.end()


def test_this_terminal_raises_for_an_unknown_setting():
    with pytest.raises(TdiffError):
        this_terminal(color="mauve", ask=False)
