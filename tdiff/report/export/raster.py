"""Pictures in pixels: PNG, GIF, and MP4 through ffmpeg."""

from __future__ import annotations

import importlib
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from io import BytesIO
from pathlib import Path

from PIL import Image
from rich.cells import cell_len

from tdiff.draw.render import Line
from tdiff.errors import TdiffError
from tdiff.report.export.colours import RGB, THEMES, Colours, blend, colours
from tdiff.report.export.frames import Frame, Size
from tdiff.report.export.glyphs import Glyphs, clusters
from tdiff.report.export.measures import MARGIN

FONT_PIXELS = 15
_LEVELS = 5
"""Colours of a GIF between a text's colour and its background, for smooth edges."""
Progress = Callable[[int, int], None]
"""Called with the number of frames drawn, and of all."""


class Painter:
    """Draws frames one after another; a row that did not change is not drawn again."""

    def __init__(self, size: Size, background: str, pixels: int = FONT_PIXELS) -> None:
        self._glyphs, self._background = Glyphs(pixels), background
        width, height = size.width * self._glyphs.width, size.height * self._glyphs.height
        self._image = Image.new("RGB", (width + 2 * MARGIN, height + 2 * MARGIN), THEMES[background].background_color)
        self._shown: list[Line | None] = [None] * size.height
        self.pixels = self._image.size
        """Width and height of the pictures."""
        self.used: set[Colours] = set()
        """The colours of everything drawn so far."""

    def paint(self, frame: Frame) -> Image.Image:
        """The picture of a frame; the next call changes it."""
        for row, line in enumerate(frame.lines):
            if line != self._shown[row]:
                self._paint_row(row, line)
                self._shown[row] = line
        return self._image

    def _paint_row(self, row: int, line: Line) -> None:
        x, y = MARGIN, MARGIN + row * self._glyphs.height
        for text, style in line:
            look = colours(style, self._background)
            self.used.add(look)
            width = cell_len(text) * self._glyphs.width
            self._image.paste(look.background, (x, y, x + width, y + self._glyphs.height))
            for cluster in clusters(text):
                if not cluster.isspace():
                    mask = self._glyphs.mask(cluster, look.bold)
                    self._image.paste(look.text, (x, y), mask)
                step = cell_len(cluster) * self._glyphs.width
                if look.underline:
                    self._image.paste(
                        look.text, (x, y + self._glyphs.height - 2, x + step, y + self._glyphs.height - 1)
                    )
                x += step


def png(frame: Frame, size: Size, background: str) -> bytes:
    """One frame as a PNG."""
    file = BytesIO()
    Painter(size, background, 2 * FONT_PIXELS).paint(frame).save(file, format="PNG", optimize=True)
    return file.getvalue()


def gif(frames: Sequence[Frame], size: Size, background: str, progress: Progress) -> bytes:
    """Frames as a GIF in an endless loop. Times are rounded to hundredths of a second, the format's unit."""
    painter = Painter(size, background)
    pictures = []
    for number, frame in enumerate(frames, 1):
        pictures.append(painter.paint(frame).copy())
        progress(number, len(frames))
    palette = _palette(painter.used, THEMES[background].background_color)
    first, *others = [picture.quantize(palette=palette, dither=Image.Dither.NONE) for picture in pictures]
    durations = [max(round(100 * frame.seconds), 2) * 10 for frame in frames]
    file = BytesIO()
    first.save(
        file, format="GIF", save_all=True, append_images=others, duration=durations, loop=0, disposal=1, optimize=False
    )
    return file.getvalue()


def mp4(frames: Sequence[Frame], size: Size, background: str, fps: float, progress: Progress) -> bytes:
    """Frames as an MP4 (H.264). Raises TdiffError where ffmpeg is missing or fails."""
    program, painter = ffmpeg(), Painter(size, background)
    width, height = painter.pixels
    source = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", f"{fps:g}", "-i", "-")
    # H.264 requires even sizes; players want yuv420p, and the index at the beginning.
    target = ("-vf", "pad=ceil(iw/2)*2:ceil(ih/2)*2", "-pix_fmt", "yuv420p", "-movflags", "+faststart", "-f", "mp4")
    with tempfile.NamedTemporaryFile(suffix=".mp4") as file, tempfile.TemporaryFile() as errors:
        command = [program, "-loglevel", "error", "-y", *source, "-c:v", "libx264", *target, file.name]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=errors)
        assert process.stdin is not None
        try:
            with suppress(BrokenPipeError):  # its exit code tells why
                for number, frame in enumerate(frames, 1):
                    data = painter.paint(frame).tobytes()
                    for _ in range(max(round(frame.seconds * fps), 1)):
                        process.stdin.write(data)
                    progress(number, len(frames))
            with suppress(BrokenPipeError):
                process.stdin.close()
            code = process.wait()
        except BaseException:  # a frame that cannot be drawn, or Ctrl-C
            process.kill()
            process.wait()
            with suppress(OSError):
                process.stdin.close()
            raise
        if code:
            errors.seek(0)
            said = errors.read().decode("utf-8", "replace").strip().splitlines() or ["no reason given"]
            raise TdiffError(f"ffmpeg could not write the MP4: {said[-1]}")
        return Path(file.name).read_bytes()


def ffmpeg() -> str:
    """The ffmpeg program, of this system or of the package imageio-ffmpeg. Raises TdiffError where there is none."""
    if program := shutil.which("ffmpeg"):
        return program
    try:
        return str(importlib.import_module("imageio_ffmpeg").get_ffmpeg_exe())
    except (ImportError, RuntimeError):
        raise TdiffError(
            "MP4 requires the program ffmpeg, or the package imageio-ffmpeg (pip install imageio-ffmpeg)"
        ) from None


def _palette(used: Iterable[Colours], background: RGB) -> Image.Image:
    """A palette of all colours, and of some between each text and its background, at most 256."""
    wanted = dict[RGB, None].fromkeys([background])
    levels = _LEVELS
    pairs = sorted({(look.text, look.background) for look in used})
    while levels and 2 * len(pairs) + len(pairs) * (levels - 1) > 250:
        levels -= 1
    for front, back in pairs:
        for level in range(levels + 1):
            wanted.setdefault(blend(front, back, level / max(levels, 1)))
    entries = list(wanted)[:256]
    image = Image.new("P", (1, 1))
    image.putpalette([channel for colour in entries + entries[:1] * (256 - len(entries)) for channel in colour])
    return image
