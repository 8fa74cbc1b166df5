"""Characters as masks of pixels, by a font that comes with tdiff; blocks and braille are drawn to fill their cells.

Characters that the font lacks, such as Chinese ones, are drawn by a font that the system's `fc-match` names.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from functools import lru_cache
from importlib import resources

from PIL import Image, ImageDraw, ImageFont
from rich.cells import cell_len

_BLOCKS = range(0x2580, 0x2590)
_SHADES = {0x2591: 64, 0x2592: 128, 0x2593: 192}
_BRAILLE = range(0x2800, 0x2900)
# (column, row) of the dot of each bit of a braille character
_DOTS = ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (0, 3), (1, 3))


class Glyphs:
    """The masks of characters at one size."""

    def __init__(self, pixels: int) -> None:
        """`pixels`: the size of the font."""
        self.pixels = pixels
        with resources.as_file(resources.files("tdiff.report.export") / "font" / "DejaVuSansMono.ttf") as path:
            self._font = ImageFont.truetype(str(path), pixels)
            self._missing = bytes(self._font.getmask("\U0010ffff"))
        self.ascent, descent = self._font.getmetrics()
        """Pixels above the baseline."""
        self.width, self.height = round(self._font.getlength("M")), self.ascent + descent
        """Pixels of a cell."""
        self._masks: dict[tuple[str, bool], Image.Image] = {}

    def mask(self, text: str, bold: bool = False) -> Image.Image:
        """The mask of one character with what combines with it, as wide as its cells; 0..255 for each pixel."""
        if (text, bold) not in self._masks:
            self._masks[text, bold] = self._draw(text, bold)
        return self._masks[text, bold]

    def _draw(self, text: str, bold: bool) -> Image.Image:
        mask = Image.new("L", (self.width * max(cell_len(text), 1), self.height))
        draw, code = ImageDraw.Draw(mask), ord(text[0])
        if code in _SHADES:
            mask.paste(_SHADES[code], (0, 0, *mask.size))
        elif code in _BLOCKS:
            self._block(draw, code)
        elif code in _BRAILLE:
            self._braille(draw, code - _BRAILLE.start)
        else:
            font = self._font
            if code > 0x2FF and bytes(font.getmask(text[0])) == self._missing:
                font = other_font(code, self.pixels) or font
            draw.text((0, self.ascent), text, fill=255, font=font, anchor="ls")
            if bold:  # a second stroke beside the first, because the font comes in one weight
                draw.text((1, self.ascent), text, fill=255, font=font, anchor="ls")
        return mask

    def _block(self, draw: ImageDraw.ImageDraw, code: int) -> None:
        width, height = self.width, self.height
        eighths = code - 0x2580
        if code == 0x2580:  # upper half
            box = (0, 0, width, height // 2)
        elif code <= 0x2588:  # lower eighths
            box = (0, height - round(height * eighths / 8), width, height)
        elif code <= 0x258F:  # left eighths, from seven down to one
            box = (0, 0, round(width * (16 - eighths) / 8), height)
        else:
            return
        draw.rectangle((box[0], box[1], box[2] - 1, box[3] - 1), fill=255)

    def _braille(self, draw: ImageDraw.ImageDraw, bits: int) -> None:
        radius = max(self.width / 7, 0.8)
        for bit, (column, row) in enumerate(_DOTS):
            if bits >> bit & 1:
                x, y = self.width * (column + 0.5) / 2, self.height * (row + 0.5) / 4
                draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)


def clusters(text: str) -> Iterator[str]:
    """The characters of a text, each with the ones without width that follow it."""
    cluster = ""
    for character in text:
        if cluster and cell_len(character):
            yield cluster
            cluster = ""
        cluster += character
    if cluster:
        yield cluster


@lru_cache(maxsize=256)
def other_font(code: int, pixels: int) -> ImageFont.FreeTypeFont | None:
    """A font of this system with the character; None where there is none, or no fontconfig."""
    if not (program := shutil.which("fc-match")):
        return None
    command = [program, "--format=%{file}", f":charset={code:x}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5)
        return ImageFont.truetype(done.stdout, pixels) if done.stdout else None
    except (OSError, subprocess.SubprocessError):
        return None
