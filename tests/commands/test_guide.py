"""`tdiff guide` on a terminal: pages are paged, in styles where the pager shows them and in plain text where not."""

import contextlib
import io
import re
import shutil

import pytest
from rich.cells import cell_len

from tdiff import guide
from tests.support.ptys import Pty
from tests.support.runs import COMMAND

BOLD = b"\x1b[1m"
CONTROL = re.compile(r"\x1b\[[\d;?]*[A-Za-z]|\x1b[=>]|\x1b\]8;[^\x1b]*\x1b\\")


def paged(page: str, **env: str) -> tuple[bytes, str]:
    """What a terminal of 80 columns gets of a page; and without the control sequences."""
    one = Pty([*COMMAND, "guide", page], **{"MANPAGER": "", "PAGER": "", "LESS": ""} | env)
    one.until(guide.title(guide.pages()[page]).encode())
    one.send(b"q")  # which less and more wait for
    assert one.end() == 0, one.written
    return one.written, CONTROL.sub("", one.written.decode()).replace("\r\n", "\n")


@pytest.mark.skipif(not shutil.which("less"), reason="LESS IS MISSING: paging by it stays untested")
@pytest.mark.parametrize(
    "env", [{}, {"LESS": "-i"}, {"LESS": "FX"}, {"PAGER": "less"}, {"PAGER": "less -S"}, {"MANPAGER": "less"}], ids=str
)
def test_less_shows_styles_and_no_code_of_one_as_text(env):
    written, text = paged("masking-and-schedules", **env)
    assert BOLD in written
    assert "ESC" not in text
    assert "A masked-diffusion model learns one thing" in text


@pytest.mark.parametrize("pager", ["cat", "cat -v", "more"])
def test_another_pager_gets_plain_text(pager):
    # How `more` itself waits for keys and shows control codes is the case: a stand-in would test the stand-in. A system
    # without it, such as a minimal Debian, runs the two cases of `cat`.
    if not shutil.which(pager.split()[0]):
        pytest.skip(f"{pager} IS MISSING: paging by it stays untested")
    written, text = paged("masking-and-schedules", PAGER=pager)
    assert BOLD not in written
    assert "[1m" not in text
    assert "A masked-diffusion model learns one thing" in text


def test_no_formula_is_wrapped_at_80_columns(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("LINES", "100000")  # no page is long enough for a pager
    for page, source in guide.pages().items():
        formulas = [line.strip() for line in re.findall(r"^ {4,}\S.*", source, re.MULTILINE)]
        terminal = io.StringIO()
        terminal.isatty = lambda: True
        with contextlib.redirect_stdout(terminal):
            guide.show(page)
        text = CONTROL.sub("", terminal.getvalue())
        assert max(map(cell_len, text.splitlines())) <= 80
        assert not [formula for formula in formulas if formula not in text], page
