"""Exported generations: what is in each format, and what of a trace reaches it."""

import itertools
import json
import re
from xml.etree import ElementTree

import pytest

from tdiff.commands.export import FORMATS
from tdiff.draw import render
from tdiff.draw.palettes import Theme
from tdiff.errors import TdiffError
from tdiff.protocol.events import to_line
from tdiff.protocol.trace import TraceEnd, TraceHeader, TraceStep
from tdiff.report.export import cast, frames, html, svg, timeline
from tdiff.report.export.colours import colours
from tdiff.report.export.frames import Size
from tdiff.watch.generation.recording import Recording, free_path
from tests.watch.generation.test_ending import with_ending
from tests.watch.generation.test_insight import story

THEME = Theme()
WORDS = "Once upon a time </script> there was\na 龍 & a <fox>"


def lines_of(text: str = WORDS, every: int = 1, decoder: str = "confidence"):
    """A trace that unmasks `every` positions a call from the right, behind the prompt of 5 positions."""
    settings = {"decoder": decoder, "threshold": 0.7}
    given = [(n, c, 9) for n, c in enumerate(text[:5])]
    positions = list(range(len(text) - 1, 4, -1))
    steps = -(-len(positions) // every)
    yield TraceHeader(
        version="1",
        model="tale",
        decoder=decoder,
        settings=settings,
        seed=7,
        row=0,
        prompt=text[:5],
        cells=len(text),
        given=given,
        steps=steps,
    )
    for step in range(steps):
        chosen = positions[step * every : (step + 1) * every]
        cells = [(p, text[p], 1, (p % 10) / 10, "commit") for p in chosen]
        yield TraceStep(index=step + 1, t=1 - (step + 1) / steps, calls=step + 1, cells=cells)
    yield TraceEnd(text=text, model_calls=steps, forced=0, tokens=len(positions), seconds=1.0)


def recorded(**how) -> Recording:
    header, *rest = lines_of(**how)
    recording = Recording(header)
    for line in rest:
        recording.take(line)
    return recording


@pytest.fixture
def trace(here):
    (here / "trace.jsonl").write_text("".join(to_line(line) for line in lines_of()), "utf-8")
    return "trace.jsonl"


def texts(shown) -> list[str]:
    return [render.plain([line]).rstrip() for line in shown.lines]


def test_first_frame_has_the_prompt_and_masks_last_the_text_and_the_counters():
    recording = recorded()
    size = frames.default_size([recording], THEME)
    drawn = list(frames.frames([recording], timeline.moments([recording], 10, 3), size, THEME, "tales"))
    assert texts(drawn[0])[:3] == [
        "tales · step 0/" + f"{recording.steps} · 0% · {recording.steps} left",
        "",
        "Once " + "█" * (WORDS.index("\n") - 5 + 1),  # and one for the line feed
    ]
    assert texts(drawn[-1])[2:4] == ["Once upon a time </script> there was", "a 龍 & a <fox>"]
    assert re.fullmatch(r"tales · step (\d+)/\1 · 100% · 0 left · confidence 0\.\d\d", texts(drawn[-1])[0])
    assert texts(drawn[-1])[-1] == f"tale · conf ≥ 0.7 · seed 7 · {recording.steps} model calls"
    assert {frame.seconds for frame in drawn[:-1]} == {0.1} and drawn[-1].seconds == 3


def test_two_recordings_run_by_model_calls():
    slow, fast = recorded(), recorded(every=4)
    moments = timeline.moments([slow, fast], 10, 3)
    assert [m.steps for m in moments[:3]] == [(0, 0), (1, 1), (2, 2)]
    assert moments[-1].steps == (slow.steps, fast.steps)
    assert moments[fast.steps + 1].steps == (fast.steps + 1, fast.steps)


def test_of_many_steps_evenly_spread_ones_are_shown_with_the_first_and_the_last():
    recording = recorded(text="x" * 1000)
    shown = [m.steps[0] for m in timeline.moments([recording], 10, 3)]
    assert len(shown) == timeline.MAX_FRAMES and shown[0] == 0 and shown[-1] == recording.steps
    assert {b - a for a, b in itertools.pairwise(shown)} <= {4, 5}


@pytest.mark.parametrize("size", [Size(24, 8), Size(80, 24), Size(33, 9)])
def test_all_rows_of_all_frames_have_the_requested_size(size):
    both = [recorded(text=WORDS * 8), recorded()]
    for frame in frames.frames(both, timeline.moments(both, 10, 3, 9), size, THEME):
        widths = [render.cell_len(render.plain([line])) for line in frame.lines]
        assert widths == [size.width] * size.height


@pytest.mark.parametrize("text", ["80", "x24", "80x", "23x24", "80x7", "401x24", "80x201"])
def test_a_wrong_size_is_refused(text):
    with pytest.raises(TdiffError, match=r"^--size"):
        frames.parse_size(text)


def test_a_terminal_that_plays_the_cast_shows_each_frame():
    size = Size(40, 9)
    recording = recorded()
    drawn = list(frames.frames([recording], timeline.moments([recording], 10, 3), size, THEME))
    header, *events = [json.loads(line) for line in cast.lines(drawn, size, "a title")]
    assert (header["version"], header["width"], header["height"], header["title"]) == (2, 40, 9, "a title")
    assert [event[0] for event in events] == sorted(event[0] for event in events)
    screen = [""] * size.height
    for frame, (_, kind, data) in zip(drawn, events, strict=False):
        assert kind == "o"
        for row, text in re.findall(r"\x1b\[(\d+);1H((?:(?!\x1b\[\d+;1H).)*)", data):
            screen[int(row) - 1] = re.sub(r"\x1b\[[\d;]*m", "", text)
        assert screen == [render.plain([line]) for line in frame.lines]


def test_animated_svg_is_xml_and_shows_each_row_only_for_its_time():
    recording = recorded()
    drawn = list(frames.frames([recording], timeline.moments([recording], 10, 3), Size(40, 9), THEME))
    text = svg.document(drawn, Size(40, 9), "dark", "a & b")
    root = ElementTree.fromstring(text)
    shown = "".join("".join(element.itertext()) for element in root.iter("{http://www.w3.org/2000/svg}text"))
    assert "a龍&a<fox>" in shown.replace(" ", "")
    assert not [element for element in root.iter() if element.tag.endswith("}script")]
    names = set(re.findall(r'class="(r\d+)"', text))
    assert names and all(f".{name}{{animation:" in text for name in names)
    still = ElementTree.fromstring(svg.document(drawn[-1:], Size(40, 9), "light", "still"))
    assert "animation" not in ElementTree.tostring(still, "unicode")


def test_player_holds_the_finished_text_without_scripts_and_the_steps_for_its_script():
    recording = recorded()
    page = html.document([recording, recorded(every=3)], THEME, 10, 3, "a <title>")
    canvas = re.search(r'<pre class="canvas">(.*?)</pre>', page, re.DOTALL)[1]
    assert re.sub("<[^>]*>", "", canvas) == WORDS.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])
    first, second = data["recordings"]
    assert first["cells"] == len(WORDS) and len(first["steps"]) == recording.steps == 3 * len(second["steps"])
    assert first["steps"][0]["cells"] == [[len(WORDS) - 1, ">", pytest.approx((len(WORDS) - 1) % 10 / 10)]]
    assert "http" not in page and page.count("</script>") == 2


@pytest.fixture(scope="module")
def pillow():
    return pytest.importorskip("PIL.Image", reason="PILLOW IS MISSING: no picture is drawn")


def test_gif_has_the_frames_and_their_times(pillow, cli_fast, trace, here):
    done = cli_fast("export", trace, "out.gif", "--fps", "20", "--hold", "2")
    assert done.returncode == 0 and "saved out.gif" in done.stderr and done.stdout == ""
    with pillow.open(here / "out.gif") as picture:
        steps = len(WORDS) - 5
        assert picture.n_frames == steps + 1 and picture.info["loop"] == 0
        times = []
        for frame in range(picture.n_frames):
            picture.seek(frame)
            times.append(picture.info["duration"])
        assert times == [50] * steps + [2000]


def test_blocks_fill_their_cells_and_braille_has_its_dots(pillow):
    from tdiff.report.export.glyphs import Glyphs

    glyphs = Glyphs(15)
    assert glyphs.mask("█").getextrema() == (255, 255)
    assert glyphs.mask("▒").getextrema() == (128, 128)
    left, right = (glyphs.mask(dot).getbbox() for dot in "⠁⠈")
    assert left[2] <= right[0] and left[1] == right[1]
    assert glyphs.mask("龍").size[0] == 2 * glyphs.width and glyphs.mask("A").getbbox()
    lower = glyphs.mask("▄").getbbox()
    assert lower[0] == 0 and lower[2] == glyphs.width and lower[3] == glyphs.height and lower[1] > 0


def test_png_of_a_mask_is_a_block_in_its_colour(pillow, cli_fast, trace, here):
    assert cli_fast("export", trace, "out.png", "--step", "0").returncode == 0
    with pillow.open(here / "out.png") as picture:
        mask = colours(render.styles(THEME).mask[1], "dark").text
        counts = {colour: count for count, colour in picture.convert("RGB").getcolors(1 << 16)}
    assert counts[mask] > 10_000


@pytest.mark.parametrize("ending", ["html", "svg", "cast", "txt"])
def test_formats_without_pixels_need_no_pillow(ending, cli_fast, trace, here, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert cli_fast("export", trace, f"out.{ending}").returncode == 0
    assert "龍" in (here / f"out.{ending}").read_text("utf-8")


@pytest.mark.parametrize(
    "arguments, says",
    [
        (("trace.jsonl", "out.gof"), "unknown format 'gof'; did you mean gif?"),
        (("trace.jsonl", "out"), f"known: {', '.join(FORMATS)}"),
        (("trace.jsonl", "nowhere/out.svg"), "name a file in an existing folder"),
        (("missing.jsonl", "out.svg"), "No such file"),
        (("other.txt", "out.svg"), "has no loss to draw"),
        (("trace.jsonl", "out.svg", "--sample", "2"), "holds 1 generation; got --sample 2"),
        (("trace.jsonl", "out.gif", "--step", "3"), "--step N makes a still"),
        (("trace.jsonl", "out.txt", "--step", "999"), "--step 999: the last step of the trace is"),
        (("trace.jsonl", "out.svg", "--fps", "0"), "--fps must be 0.1 to 60; got 0"),
        (
            ("trace.jsonl", "out.svg", "--captions", "--smooth", "0"),
            "--smooth and --captions have no effect on a",
        ),
        (("trace.jsonl", "out.txt", "--fps", "10"), "--fps has no effect on a still: leave it out"),
        (("trace.jsonl", "out.html", "--size", "80x24"), "--size has no effect on a player"),
        (("trace.jsonl", "out.svg", "--beside", "run.log"), "'trace.jsonl' is a trace, --beside 'run.log' a run or"),
        (
            ("run.log", "out.svg", "--beside", "trace.jsonl"),
            "'run.log' is a run or a log, --beside 'trace.jsonl' a tr",
        ),
        (("run.log", "out.svg", "--step", "3", "--sample", "1"), "--step and --sample have no effect on the curves"),
        (("run.log", "out.csv", "--size", "80x24"), "--size has no effect on a table of values"),
        (("trace.jsonl", "out.svg", "--size", "80"), "--size takes COLUMNSxROWS"),
    ],
)
def test_bad_input_is_one_line(arguments, says, cli_fast, trace, here):
    (here / "other.txt").write_text("nothing here\n")
    (here / "run.log").write_text("step 1 loss 2.5\n")
    assert says in cli_fast("export", *arguments).refused()


def test_without_pillow_a_picture_is_refused_with_the_command_that_installs_it(cli_fast, trace, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert "pipx inject tdiff-lm pillow" in cli_fast("export", trace, "out.gif").refused()


def test_a_text_with_an_ending_has_no_masks_after_it(cli_fast, here):
    (here / "until.jsonl").write_text("".join(map(to_line, with_ending().lines())), "utf-8")
    for ending in ("txt", "html", "cast", "svg"):
        assert cli_fast("export", "until.jsonl", f"out.{ending}").returncode == 0
    assert (here / "out.txt").read_text("utf-8").splitlines()[:3] == [
        "step 3/9 · 100% · 0 left · confidence 0.50",
        "",
        "Once upon.",
    ]
    page = (here / "out.html").read_text("utf-8")
    assert re.sub("<[^>]*>", "", re.search(r'<pre class="canvas">(.*?)</pre>', page)[1]) == "Once upon."
    assert data_of(page)["recordings"][0]["cells"] == 3


def data_of(page: str):
    return json.loads(re.search(r'id="data">(.*?)</script>', page, re.DOTALL)[1])


def test_player_has_the_predictions_of_a_trace_with_details_and_reading_it_loses_nothing(here):
    recording = story().recording
    (here / "detail.jsonl").write_text("".join(map(to_line, recording.lines())), "utf-8")
    read = timeline.read(here / "detail.jsonl")
    assert list(map(to_line, read.lines())) == list(map(to_line, recording.lines()))
    [player] = data_of(html.document([read], THEME, 10, 3, ""))["recordings"]
    guesses = {}
    for step in player["steps"]:
        for position, entropy, *pairs in step.get("guesses", ()):
            named = [(player["tokens"][token], p) for token, p in zip(pairs[::2], pairs[1::2], strict=True)]
            guesses[step["index"], position] = named
            assert entropy == pytest.approx(1.0, abs=0.1)
    assert guesses[1, 3] == [("t7", pytest.approx(0.6, abs=0.01)), ("t8", pytest.approx(0.3, abs=0.01))]
    assert guesses[2, 3][0][0] == "t8" and (4, 3) not in guesses and guesses[6, 3][0][0] == "t7"


@pytest.mark.parametrize("failure", [KeyboardInterrupt, ValueError])
def test_ffmpeg_ends_with_an_export_that_fails(pillow, failure, here, monkeypatch):
    from tdiff.report.export import raster

    program = here / "ffmpeg"
    program.write_text("#!/bin/sh\nexec cat > /dev/null\n")
    program.chmod(0o755)
    monkeypatch.setattr(raster, "ffmpeg", lambda: str(program))
    started = []
    popen = raster.subprocess.Popen
    monkeypatch.setattr(raster.subprocess, "Popen", lambda *a, **k: started.append(popen(*a, **k)) or started[-1])

    def progress(done: int, total: int) -> None:
        raise failure

    drawn = list(frames.frames([recorded()], [timeline.moment_at([recorded()], 0)], Size(24, 8), THEME))
    with pytest.raises(failure):
        raster.mp4(drawn, Size(24, 8), "dark", 10, progress)
    assert started[0].returncode is not None


def test_a_trace_gets_a_name_whose_player_overwrites_nothing(here):
    (here / "trace-1.html").write_text("kept")
    (here / "trace-2.jsonl").write_text("kept")
    assert free_path().name == "trace-3.jsonl"


def test_palette_is_that_of_the_option_and_must_be_readable(cli_fast, trace, here):
    from tdiff.draw.palettes import styles
    from tdiff.report.export.colours import colours, hexadecimal

    assert cli_fast("export", trace, "out.html", "--theme", "light", "--palette", "traffic").returncode == 0
    page = (here / "out.html").read_text("utf-8")
    assert 'data-background="light"' in page
    for shade in styles(Theme(palette="traffic", background="light")).shades:
        assert hexadecimal(colours(shade, "light").text) in page
    refused = cli_fast("export", trace, "out.svg", "--theme", "light", "--palette", "dark").refused()
    assert "--palette dark cannot be read on the light background: choose light or traffic" in refused
    assert "palette" in cli_fast("export", trace, "out.svg", "--palette", "lihgt").refused()
    assert "--palette has no effect" in cli_fast("export", trace, "out.txt", "--palette", "traffic").refused()


@pytest.mark.parametrize("width", [24, 33, 40, 60, 80, 100, 120])
@pytest.mark.parametrize("count", [1, 2])
def test_figures_of_title_and_footer_are_whole_or_absent(width, count):
    both = [recorded(text=WORDS * 3), recorded(text=WORDS * 3, every=4, decoder="entropy")][:count]
    panel = (width - 3 * (count - 1)) // count
    whole = re.compile(
        r"step \d+/\d+|\d+%|\d+ left|confidence \d\.\d\d|tale|conf ≥ 0\.7|entropy|seed 7|\d+ model calls"
    )
    for frame in frames.frames(both, timeline.moments(both, 10, 3, 9), Size(width, 16), THEME):
        rows = texts(frame)
        for row in (rows[0], *rows[-2:]):
            if "low" in row or "new" in row:
                continue  # the legend
            for column in range(count):
                at = column * (panel + 3)
                for part in filter(None, row.ljust(width)[at : at + panel].strip().split(" · ")):
                    assert whole.fullmatch(part) or part.endswith("…"), (row, part)
        assert "step" in rows[0]


def test_two_traces_at_80_columns_show_all_of_their_footers():
    both = [recorded(), recorded(every=4)]
    size = frames.default_size(both, THEME)
    *_, last = frames.frames(both, timeline.moments(both, 10, 3), size, THEME)
    below = " ".join(texts(last)[-2:])
    assert below.count("tale · conf ≥ 0.7 · seed 7") == 2
    assert f"{both[0].steps} model calls" in below and f"{both[1].steps} model calls" in below


def test_plain_text_has_no_legend_of_colours(cli_fast, trace, here):
    assert cli_fast("export", trace, "out.txt").returncode == 0
    assert "bold" not in (here / "out.txt").read_text() and "low" not in (here / "out.txt").read_text()


def worded() -> Recording:
    """A generation of words of several widths, some of them wide, with a line feed, from the right."""
    words = [
        "Once",
        " upon",
        " a",
        " time",
        ",",
        " the",
        " 龍",
        " was",
        ".",
        "\n",
        "It",
        " slept",
        " and",
        " slept",
        "!",
    ]
    header = TraceHeader(
        version="1",
        model="tale",
        decoder="confidence",
        settings={"decoder": "confidence"},
        seed=1,
        row=0,
        prompt="Once",
        cells=len(words),
        given=[(0, "Once", 1)],
    )
    recording = Recording(header)
    for step, position in enumerate(range(len(words) - 1, 0, -1), 1):
        cell = (position, words[position], 1, 0.5, "commit")
        recording.take(TraceStep(index=step, t=0.5, calls=step, cells=[cell]))
    recording.take(TraceEnd(text="".join(words), model_calls=14, forced=0, tokens=14, seconds=1.0))
    return recording


@pytest.mark.parametrize("width", [24, 25, 26, 33])
def test_a_mask_is_as_wide_as_its_final_token_and_no_text_moves(width):
    recording = worded()
    drawn = list(frames.frames([recording], timeline.moments([recording], 10, 3), Size(width, 12), THEME))
    last = [list(grid(line)) for line in drawn[-1].lines[2:-3]]
    for frame in drawn:
        for line, final in zip(frame.lines[2:-3], last, strict=True):
            for cell, then in zip(grid(line), final, strict=True):
                assert cell in (then, "█"), render.plain(frame.lines)
                assert then != " " or cell in " █"
    assert sum(cell == "█" for line in drawn[0].lines[2:-3] for cell in grid(line)) > 30


def grid(line):
    """The cells of a line; a wide character has two."""
    for text, _ in line:
        for character in text:
            yield from [character] * render.cell_len(character)


def test_rows_of_an_export_begin_neither_with_a_blank_nor_with_punctuation():
    recording = worded()
    for width in range(24, 40):
        for frame in frames.frames([recording], timeline.moments([recording], 10, 3), Size(width, 12), THEME):
            for row in texts(frame)[2:-3]:
                assert not row or row[0] not in " ,.!", (width, texts(frame))


@pytest.mark.parametrize("background", ["dark", "light"])
def test_the_legend_of_the_player_has_the_colours_of_its_text(background):
    theme = Theme(palette=background, background=background)
    page = html.document([recorded()], theme, 10, 3, "")
    legend = re.search(r'<p class="legend">(.*?)</p>', page)[1]
    shown = re.findall(r'<span class="(c\d)">', legend)
    assert shown == [f"c{n}" for n in range(len(render.styles(theme).shades))], "the script counts these elements"
    words = re.sub("<[^>]*>", "", legend)
    assert "new:" in words and "remasked:" in words and "masked:" in words
    for name, style in zip(shown, render.styles(theme).shades, strict=True):
        red, green, blue = colours(style, background).text
        assert f".{name}{{color:#{red:02x}{green:02x}{blue:02x}}}" in page
    style = page[page.index("<style>") : page.index("</style>")]
    for rule in re.findall(r"([^{}]*)\{[^{}]*opacity[^{}]*\}", style):
        assert ".legend" not in [part.strip() for part in rule.split(",")], "a dimmed legend has other colours"
