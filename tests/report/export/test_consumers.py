"""Exported files in the programs that they are for: Chromium and asciinema, where these are installed."""

import re
import shutil
import subprocess

import pytest

from tdiff.draw.palettes import Theme
from tdiff.protocol.events import to_line
from tdiff.report.export import html
from tests.report.export.test_export import lines_of
from tests.support.ptys import Pty
from tests.watch.generation.test_insight import story

pytestmark = pytest.mark.slow
_NAMES = ("chromium", "chromium-browser", "google-chrome")
CHROMIUM = next((path for name in _NAMES if (path := shutil.which(name))), "")


@pytest.fixture
def trace(here):
    (here / "trace.jsonl").write_text("".join(to_line(line) for line in lines_of()), "utf-8")
    return "trace.jsonl"


@pytest.mark.skipif(not CHROMIUM, reason="CHROMIUM IS MISSING: no page is opened in a browser")
@pytest.mark.parametrize("ending", ["html", "svg"])
def test_chromium_plays_it_to_its_end(ending, cli_fast, trace, here):
    images = pytest.importorskip("PIL.Image", reason="PILLOW IS MISSING: no screenshot is examined")
    assert cli_fast("export", trace, f"out.{ending}", "--fps", "50", "--hold", "600").returncode == 0
    drawn = here / f"out.{ending}"
    # Without the legend of a page, which shows a mask to its end.
    drawn.write_text(
        drawn.read_text("utf-8").replace("</head>", "<style>.legend { display: none }</style></head>"), "utf-8"
    )
    pictures = []
    for milliseconds in (1, 9000):
        command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--window-size=900,400"]
        command += [f"--virtual-time-budget={milliseconds}", f"--screenshot={here / 'out.png'}"]
        subprocess.run([*command, str(drawn)], check=True, capture_output=True, timeout=120)
        with images.open(here / "out.png") as picture:
            pictures.append({c: n for n, c in picture.convert("RGB").getcolors(1 << 20)})
    mask = (88, 88, 88)  # entry 240 of the xterm palette
    assert pictures[1].get(mask, 0) < pictures[0].get(mask, 0), "it does not move"
    if ending == "html":
        assert pictures[1].get(mask, 0) < 20, "masks are left at the end"


@pytest.mark.skipif(not shutil.which("asciinema"), reason="ASCIINEMA IS MISSING: no cast is played")
def test_asciinema_plays_the_cast(cli_fast, trace, here):
    assert cli_fast("export", trace, "out.cast", "--fps", "50").returncode == 0
    terminal = Pty(["asciinema", "cat", str(here / "out.cast")])  # it requires a terminal
    assert b"Once" in terminal.until(b"model calls")


@pytest.mark.skipif(not CHROMIUM, reason="CHROMIUM IS MISSING: no page is opened in a browser")
def test_chromium_shows_the_predictions_of_the_position_under_the_pointer(here):
    page = html.document([story().recording], Theme(), 10, 3, "")
    act = """<script>
document.dispatchEvent(new KeyboardEvent("keydown", { key: "End" }));
document.querySelectorAll(".canvas span")[3].dispatchEvent(new MouseEvent("mouseenter"));
</script></body>"""
    (here / "out.html").write_text(page.replace("</body>", act), "utf-8")
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom", str(here / "out.html")]
    dom = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout
    about, line = (
        re.search(rf'id="{name}"[^>]*>(.*?)</(?:span|p)>\s*\n', dom)[1] for name in ("about", "alternatives")
    )
    assert 'position 3 · "t7" · confidence 0.500 · step 6' in about
    assert re.fullmatch(r'<span class="c\d new">"t7" 0\.98</span>entropy 1\.01 nats', line)
