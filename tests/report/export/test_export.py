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
        "Once " + "█" * (len(WORDS) - 5),
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
