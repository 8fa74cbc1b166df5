"""Make the pictures of the live view in the guide: `python -m tests.support.pictures [SIZE...]`.

`tdiff watch` runs in tmux. Its screen becomes an SVG that refers to nothing outside.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

ROOT = Path(__file__).resolve().parents[2]
GUIDE = ROOT / "tdiff" / "guide"
COMMAND = (
    f"{sys.executable} -m tdiff watch tales --decoder topk --k 2 --length 120 --seed 2 --prompt 'Once upon a time'"
)
KEYS = {"80x24": "", "160x48": "cD"}
"""Size of the window -> keys that are pressed while the text is in progress."""
_PATIENCE = 180.0

# Without the web fonts and the window's frame of rich's own format.
_FORMAT = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}">
<style>
.{unique_id}-matrix {{ font-family: "DejaVu Sans Mono", "Cascadia Mono", Menlo, Consolas, monospace; \
font-size: {char_height}px; line-height: {line_height}px; font-variant-east-asian: full-width }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal"><rect width="{terminal_width}" height="{terminal_height}"/></clipPath>
{lines}
</defs>
<rect width="{width}" height="{height}" rx="8" fill="#121212"/>
<g transform="translate({terminal_x}, 12)" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""
_THEME = TerminalTheme(
    (18, 18, 18),
    (205, 205, 205),
    [
        (0, 0, 0),
        (205, 49, 49),
        (13, 188, 121),
        (229, 229, 16),
        (36, 114, 200),
        (188, 63, 188),
        (17, 168, 205),
        (205,) * 3,
    ],
    [
        (102,) * 3,
        (241, 76, 76),
        (35, 209, 139),
        (245, 245, 67),
        (59, 142, 234),
        (214, 112, 214),
        (41, 184, 219),
        (229,) * 3,
    ],
)


def screen(size: str, keys: str) -> str:
    """The screen, with its colours as escape sequences, when the text is half unmasked."""
    width, height = size.split("x")
    with tempfile.TemporaryDirectory() as folder:
        # With $TMUX the model would be idle, because no terminal is attached.
        unset = " ".join(f"-u {name}" for name in ("TMUX", "TMUX_PANE", "STY", "NO_COLOR"))
        state = f"TDIFF_STATE={folder}/state XDG_CONFIG_HOME={folder} TERM=xterm-256color COLORTERM=truecolor"
        tmux = ["tmux", "-S", f"{folder}/tmux", "-f", "/dev/null"]
        start = [*tmux, "new", "-d", "-x", width, "-y", height, f"env {unset} {state} {COMMAND}"]
        subprocess.run(start, check=True, cwd=ROOT, env=os.environ | {"LC_ALL": "C.UTF-8"})
        try:

            def shown(*options: str) -> str:
                return subprocess.run(
                    [*tmux, "capture-pane", "-p", *options], check=True, capture_output=True, encoding="utf-8"
                ).stdout

            _until(lambda: "▶ live" in (text := shown()) and _unmasked(text) >= 0.1)
            for key in keys:
                subprocess.run([*tmux, "send-keys", key], check=True)
            _until(lambda: _unmasked(shown()) >= 0.5)
            return shown("-e")
        finally:
            subprocess.run([*tmux, "kill-server"], check=False, capture_output=True)


def _unmasked(text: str) -> float:
    found = re.search(r"· (\d+)% · \d+ left", text)
    return int(found[1]) / 100 if found else 0.0


def _until(done: Callable[[], bool]) -> None:
    end = time.monotonic() + _PATIENCE
    while not done():
        if time.monotonic() > end:
            raise TimeoutError("the view does not get there")
        time.sleep(0.02)


def picture(text: str, width: int) -> str:
    """An SVG of a screen."""
    with Path(os.devnull).open("w") as nowhere:
        console = Console(record=True, width=width, force_terminal=True, color_system="truecolor", file=nowhere)
        for row in text.rstrip("\n").split("\n"):
            console.print(Text.from_ansi(row), overflow="crop", no_wrap=True)
    return console.export_svg(title="", theme=_THEME, code_format=_FORMAT, unique_id="t")


def main() -> None:
    """Write the pictures of these sizes, or all."""
    for size in sys.argv[1:] or KEYS:
        svg = picture(screen(size, KEYS[size]), int(size.split("x")[0]))
        (GUIDE / f"watch-{size}.svg").write_text(svg, "utf-8")


if __name__ == "__main__":
    main()
