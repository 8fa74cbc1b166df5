"""`tdiff generate`: on a pipe the text alone, on a terminal a canvas that resolves, and the same text in every form."""

import contextlib
import dataclasses
import fcntl
import io
import json
import os
import pty
import random
import re
import shutil
import struct
import subprocess
import termios
from collections import deque
from pathlib import Path

import pytest
import torch

from tdiff.config.decoding import DECODERS, SCHEDULES, DecodeSettings
from tdiff.core.diffusion.generate import canvas, generate
from tdiff.core.models import tokenizers
from tdiff.core.models.base import LoadedModel
from tdiff.core.models.load import load_model, save_model
from tdiff.core.models.origin import Origin
from tdiff.core.models.transformer import Shape, Transformer
from tdiff.protocol import events
from tdiff.protocol.canvas import Canvas
from tdiff.protocol.trace import TraceEnd, TraceHeader, TraceLine, TraceStep
from tdiff.visible import visible
from tests.support.runs import COMMAND, environment, settings_of, train_in

JSON_KEYS = [
    *("text", "prompt", "decoder", "settings", "seed", "model_calls", "forced", "tokens", "seconds"),
    "tokens_per_second",
]
CONTROL = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202e\u2066\ufeff]")


@pytest.fixture(scope="session")
def tiny(tiny_run) -> LoadedModel:
    return load_model(str(tiny_run.path))


@pytest.fixture
def ask(cli_fast, tiny_run):
    """`tdiff generate --model tiny ...` in this process; what it printed, after it went well."""

    def run(*arguments: str):
        done = cli_fast("generate", f"--model={tiny_run.path}", "--device=cpu", *arguments)
        assert done.returncode == 0, done
        return done

    return run


@pytest.fixture
def ask_wrongly(cli_fast, tiny_run):
    """The same; the one line of its refusal."""
    return lambda *arguments: cli_fast("generate", f"--model={tiny_run.path}", "--device=cpu", *arguments).refused()


def lines_of(text: str) -> list[TraceLine]:
    """The lines of a trace, each of which parses and is its whole line."""
    assert text.endswith("\n")
    lines = [events.parse(line) for line in text.split("\n")[:-1]]
    assert all(isinstance(line, TraceLine) for line in lines)
    return lines


def replayed(lines: list[TraceLine]) -> Canvas:
    canvas = Canvas.begin(lines[0])
    for line in lines[1:]:
        canvas.apply(line)
    return canvas


def test_piped_the_text_alone_is_on_stdout_and_the_seed_on_stderr(ask):
    done = ask("The ", "--seed=3", "--temperature=1")
    assert done.stderr == "seed 3\n"
    assert done.stdout.startswith("The ")
    assert len(done.stdout) == 32 + 1  # the window, and a line feed
    assert done.stdout.endswith("\n")


@pytest.mark.parametrize("more", [[], ["--decoder=ancestral", "--steps=4"]])
def test_an_option_that_the_decoder_does_not_read_is_reported_on_stderr(more, ask):
    plain = ask("--seed=7", "--length=8", *more)
    done = ask("--seed=7", "--length=8", "--k=3", "--t-on=0.5", *more)
    assert done.stdout == plain.stdout
    decoder = "ancestral" if more else "confidence"
    assert done.stderr.splitlines() == [
        "seed 7",
        f"--k has no effect with --decoder {decoder} (used by topk)",
        f"--t-on has no effect with --decoder {decoder} (used by remdm)",
    ]


def test_an_option_that_the_decoder_reads_is_not_reported(ask):
    assert ask("--seed=7", "--length=8", "--threshold=0.5").stderr == "seed 7\n"


def test_the_same_seed_is_the_same_text_and_another_another(ask):
    def draw(seed):
        return ask("The ", f"--seed={seed}", "--decoder=ancestral", "--steps=8").stdout

    assert draw(3) == draw(3) != draw(4)


def test_the_seed_that_was_chosen_repeats_the_text(ask):
    first = ask("--decoder=ancestral", "--temperature=2")
    seed = re.fullmatch(r"seed (\d+)\n", first.stderr)[1]
    assert ask("--decoder=ancestral", "--temperature=2", f"--seed={seed}").stdout == first.stdout


def test_json_has_its_keys_and_no_others_and_the_text_of_plain_output(ask):
    options = ["The ", "--seed=3", "--decoder=topk", "--k=5", "--temperature=0.5", "--length=20"]
    done = ask(*options, "--json")
    line = json.loads(done.stdout)
    assert list(line) == JSON_KEYS
    assert line["text"] + "\n" == ask(*options).stdout
    assert (line["prompt"], line["decoder"], line["seed"], line["tokens"]) == ("The ", "topk", 3, 20)
    assert (line["model_calls"], line["forced"]) == (4, 0)
    assert line["seconds"] > 0
    assert line["tokens_per_second"] == pytest.approx(20 / line["seconds"], rel=0.1)
    fields = {f.name for f in dataclasses.fields(DecodeSettings)} - {"decoder", "seed"}
    assert line["settings"].keys() == fields | {"model", "length", "row"}
    assert (line["settings"]["length"], line["settings"]["row"]) == (20, 0)
    assert (line["settings"]["k"], line["settings"]["temperature"]) == (5, 0.5)
    # What it tells is enough to have the text again.
    settings = {name: value for name, value in line["settings"].items() if name in fields}
    again = DecodeSettings(decoder=line["decoder"], seed=line["seed"], **settings)
    assert again == DecodeSettings(decoder="topk", k=5, temperature=0.5, seed=3)


def test_each_of_several_samples_equals_the_sample_alone(ask):
    options = ["--seed=3", "--samples=3", "--decoder=ancestral", "--steps=8"]
    lines = [json.loads(line) for line in ask(*options, "--json").stdout.splitlines()]
    assert len(lines) == 3
    assert len({line["text"] for line in lines}) == 3
    assert ask(*options).stdout == "\n".join(line["text"] + "\n" for line in lines)
    stream = lines_of(ask(*options, "--stream").stdout)
    assert [line.row for line in stream if isinstance(line, TraceHeader)] == [0, 1, 2]
    assert [line.text for line in stream if isinstance(line, TraceEnd)] == [line["text"] for line in lines]


@pytest.mark.parametrize("name", DECODERS)
def test_the_stream_of_every_decoder_replays_to_its_text_in_one_window_and_over_several(name, ask):
    for length in (0, 75):
        options = ["The ", "--seed=3", f"--decoder={name}", f"--length={length}", "--steps=6", "--temperature=1"]
        lines = lines_of(ask(*options, "--stream").stdout)
        header, end = lines[0], lines[-1]
        assert isinstance(header, TraceHeader)
        assert all(isinstance(line, TraceStep) for line in lines[1:-1])
        assert isinstance(end, TraceEnd)
        assert (header.decoder, header.seed, header.prompt) == (name, 3, "The ")
        assert header.cells == len(end.text) == 4 + end.tokens
        assert end.tokens == (length or 28)
        canvas = replayed(lines)
        assert "".join(canvas.texts) == end.text
        assert end.text.startswith("The ")
        assert canvas.left == 0
        assert canvas.calls == end.model_calls >= 1
        indexes = [line.index for line in lines[1:-1]]
        assert indexes == sorted(set(indexes))
        assert lines[-2].t == 0
        assert ask(*options).stdout == end.text + "\n"


def test_a_trace_file_is_the_stream_and_the_text_is_printed_beside_it(ask, here):
    options = ["The ", "--seed=3", "--samples=2", "--decoder=ancestral", "--steps=8"]
    plain, stream = ask(*options).stdout, ask(*options, "--stream").stdout
    assert ask(*options, "--trace=a.jsonl").stdout == plain
    assert ask(*options, "--stream", "--trace=b.jsonl").stdout

    def timeless(text):
        return [
            dataclasses.replace(line, seconds=0.0) if isinstance(line, TraceEnd) else line for line in lines_of(text)
        ]

    for name in ("a.jsonl", "b.jsonl"):
        assert timeless((here / name).read_text("utf-8")) == timeless(stream)
    [line, _] = [json.loads(line) for line in ask(*options, "--json", "--trace=c.jsonl").stdout.splitlines()]
    assert line["text"] + "\n" == plain[: len(line["text"]) + 1]


class Pipe(io.TextIOWrapper):
    """A stdout that notes what has come through at each flush."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), "utf-8", newline="")
        self.seen: list[str] = []

    def flush(self) -> None:
        super().flush()
        self.seen.append(self.buffer.getvalue().decode())


def test_every_line_of_the_stream_is_flushed_before_the_next_step(tiny_run, here, monkeypatch):
    from tdiff.commands.generate import generate as run
    from tdiff.commands.generate_request import Request

    pipe, calls = Pipe(), []
    forward = Transformer.forward

    def counted(self, *arguments, **named):
        pipe.buffer.seek(0, io.SEEK_END)
        calls.append(pipe.buffer.getvalue().count(b"\n"))
        return forward(self, *arguments, **named)

    monkeypatch.setattr(Transformer, "forward", counted)
    request = Request(
        prompt="The ",
        model=str(tiny_run.path),
        device="cpu",
        samples=1,
        length=20,
        seed=1,
        options={"decoder": "topk", "k": 2},
        stream=True,
    )
    with contextlib.redirect_stdout(pipe), contextlib.redirect_stderr(io.StringIO()):
        run(request)
    assert calls == list(range(1, 11))  # at the n-th call the header and the n - 1 steps before it have gone out


def test_a_text_longer_than_the_window_has_the_length_that_was_asked_for(ask):
    for length in (1, 28, 29, 100):
        assert len(ask("The ", f"--length={length}", "--seed=1").stdout) == 4 + length + 1


def test_without_a_prompt_a_text_begins_with_a_stored_prompt(ask, tiny):
    line = json.loads(ask("--seed=5", "--json").stdout)
    assert line["prompt"] in tiny.origin.openings
    assert line["text"].startswith(line["prompt"])


def test_empty_prompt_generates_without_a_prompt(ask):
    line = json.loads(ask("", "--seed=5", "--json").stdout)
    assert (line["prompt"], line["tokens"], len(line["text"])) == ("", 32, 32)


def test_model_with_fixed_context_requires_a_prompt(cli_fast, tiny, here):
    origin = dataclasses.replace(tiny.origin, context_mode="fixed")
    save_model(here / "fixed", tiny.network, tiny.tokenizer, origin)
    assert "cannot start without one" in cli_fast("generate", "", "--model=fixed", "--trace=t").refused()
    assert cli_fast("generate", "--model=fixed").returncode == 0
    save_model(here / "fixed", tiny.network, tiny.tokenizer, dataclasses.replace(origin, openings=()))
    assert "cannot start without one" in cli_fast("generate", "--model=fixed", "--trace=t").refused()
    assert not (here / "t").exists()


def test_prompt_after_double_dash_may_begin_with_a_dash(cli_fast, here):
    save_hostile(here / "m", "-abc ")
    done = cli_fast("generate", "--model=m", "--seed=1", "--", "--ab")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("--ab")


REFUSED = {
    "prompt-too-long": (["The hare sleeps over the hill and"], "the prompt has 33 tokens"),
    "prompt-of-a-window": (["The hare sleeps over the hill an"], "a prompt may have 31"),
    "foreign-character": (["The café"], "character 'é' (U+00E9) at position 8 of the prompt"),
    "hostile-prompt": (["\x1b[2J"], "character '\\x1b'"),
    "broken-unicode": (["\udcff"], "character '\\udcff'"),
    "unknown-decoder": (["--decoder=confidense"], "unknown decoder 'confidense'; did you mean confidence?"),
    "unknown-schedule": (["--schedule=lin"], "did you mean linear?"),
    "threshold-above": (["--threshold=1.5"], "threshold must lie between 0 and 1; got 1.5"),
    "threshold-below": (["--threshold=-0.1"], "threshold must lie between 0 and 1"),
    "threshold-nan": (["--threshold=nan"], "threshold must lie between 0 and 1; got nan"),
    "top-p-above": (["--top-p=2"], "top-p must lie between 0 and 1"),
    "negative-k": (["--k=-1"], "k must be at least 0"),
    "negative-temperature": (["--temperature=-1"], "temperature must be at least 0"),
    "infinite-temperature": (["--temperature=inf"], "temperature must be at least 0 and finite; got inf"),
    "negative-steps": (["--steps=-3"], "steps must be at least 0"),
    "no-samples": (["--samples=0"], "--samples must be at least 1; got 0"),
    "negative-length": (["--length=-5"], "--length must be at least 1, or 0"),
    "unknown-device": (["--device=gpu"], "unknown device 'gpu'"),
    "absent-model": (["--model=no-such-model-here"], "no model 'no-such-model-here'"),
    "json-and-stream": (["--json", "--stream"], "choose one"),
    "trace-in-no-folder": (["--trace=nowhere/t.jsonl"], "'nowhere/t.jsonl' cannot be written"),
}


@pytest.mark.parametrize(("arguments", "text"), REFUSED.values(), ids=REFUSED.keys())
def test_invalid_request_is_one_line_and_leaves_an_existing_trace(arguments, text, ask_wrongly, here):
    (here / "old.jsonl").write_text("kept")
    trace = [] if any(a.startswith("--trace") for a in arguments) else ["--trace=old.jsonl"]
    assert text in ask_wrongly(*trace, *arguments)
    assert (here / "old.jsonl").read_text() == "kept"


@pytest.mark.parametrize("arguments", [["one", "two"], ["--bogus"]], ids=" ".join)
def test_a_command_line_that_cannot_be_parsed_exits_with_2(arguments, cli_fast, tiny_run):
    assert "--help" in cli_fast("generate", f"--model={tiny_run.path}", *arguments).refused()


def cut_weights(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def break_config(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "tdiff", ')


def thin_config(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    del config["width"]
    (folder / "config.json").write_text(json.dumps(config))


def lose_weights(folder: Path) -> None:
    (folder / "model.safetensors").unlink()


def lose_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()


def lose_config(folder: Path) -> None:
    (folder / "config.json").unlink()


DAMAGE = {
    cut_weights: "damaged",
    break_config: "cannot be read",
    thin_config: "lacks 'width'",
    lose_weights: "do not exist",
    lose_tokenizer: "does not exist",
    lose_config: "no model",
}


@pytest.mark.parametrize(("damage", "text"), DAMAGE.items(), ids=[damage.__name__ for damage in DAMAGE])
def test_a_damaged_model_is_one_line(damage, text, tiny_run, here, cli_fast):
    shutil.copytree(tiny_run.model, here / "copy")
    damage(here / "copy")
    assert text in cli_fast("generate", "--model=copy").refused()


HOSTILE = "\x1b\x07\x00\x08\x7f\x9b\x9d\u202e\u2066\ufeff\r\n\tab[]m;"


def save_hostile(folder: Path, characters: str = HOSTILE) -> None:
    """A fresh model of 16 positions whose vocabulary is `characters`."""
    tokenizer = tokenizers.learn("char", characters, characters)
    network = Transformer(
        Shape(
            vocab_size=len(tokenizer),
            mask_id=tokenizer.mask_id,
            suppressed=tokenizer.suppressed,
            layers=1,
            heads=1,
            width=8,
            window=16,
        )
    )
    network.initialise(torch.Generator().manual_seed(1))
    origin = Origin(
        corpus="\x1b[31mx",
        sources=("-",),
        text_field="text",
        timesteps=0,
        schedule="linear",
        context=4,
        context_mode="random",
        openings=(characters[:2],),
        steps=0,
        tokens=0,
    )
    save_model(folder, network, tokenizer, origin)


def test_a_hostile_model_prints_no_control_character_in_any_form(cli_fast, here):
    save_hostile(here / "m")
    options = ["generate", "--model=m", "--decoder=ancestral", "--steps=4", "--length=60", "--samples=4", "--seed=2"]
    plain, line, stream = (cli_fast(*options, *more) for more in ([], ["--json"], ["--stream", "--trace=t"]))
    for done in (plain, line, stream):
        assert done.returncode == 0, done.stderr
        assert not CONTROL.search(done.stdout)
        assert not CONTROL.search(done.stderr)
    assert not CONTROL.search((here / "t").read_text("utf-8"))
    texts = [json.loads(text)["text"] for text in line.stdout.split("\n")[:-1]]
    assert set("".join(texts)) == set(HOSTILE)  # JSON keeps what it was, in escapes
    assert plain.stdout == "\n".join(visible(text) + "\n" for text in texts)


# A terminal


def on_terminal(arguments: list[str], cwd: Path, **env: str) -> tuple[int, str]:
    """The exit code of the command on a pseudo-terminal of 24 lines and 80 columns, and all it wrote there."""
    main, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    child = subprocess.Popen(
        [*COMMAND, *arguments], cwd=cwd, env=environment(**env), stdin=side, stdout=side, stderr=side, close_fds=True
    )
    os.close(side)
    written = b""
    with contextlib.suppress(OSError):  # EIO: the child has closed the other side
        while chunk := os.read(main, 1 << 16):
            written += chunk
    os.close(main)
    return child.wait(timeout=60), written.decode("utf-8").replace("\r\n", "\n")


class Screen:
    """As much of a terminal as the live canvas uses: text, line feeds, carriage returns, up, and erasing a line."""

    def __init__(self, written: str, columns: int = 80) -> None:
        self.lines, self.row, self.column = [""], 0, 0
        for match in re.finditer(r"\x1b\[([?\d;]*)([A-Za-z])|([\r\n])|([^\x1b\r\n]+)", written):
            number, letter, move, text = match.groups()
            if letter == "A":
                self.row = max(0, self.row - int(number or 1))
            elif letter == "K":
                assert number == "2"
                self.lines[self.row] = ""
            elif letter:
                assert letter in "mhl", match[0]
            elif move == "\n":
                self.row, self.column = self.row + 1, 0
                self.lines += [""] * (self.row + 1 - len(self.lines))
            elif move == "\r":
                self.column = 0
            else:
                line = self.lines[self.row].ljust(self.column)
                self.lines[self.row] = line[: self.column] + text + line[self.column + len(text) :]
                self.column += len(text)

    @property
    def text(self) -> str:
        return shown("\n".join(self.lines))


def shown(text: str) -> str:
    """As one sees it: without the blanks that end a line or the text."""
    return "\n".join(line.rstrip() for line in text.split("\n")).rstrip()


def test_on_a_terminal_blocks_resolve_in_place_and_the_plain_text_stays(tiny_run, here, ask):
    options = ["The ", "--seed=3", "--decoder=topk", "--k=1", "--temperature=1"]
    code, written = on_terminal(["generate", f"--model={tiny_run.path}", *options], here)
    assert code == 0, written
    assert "█" in written
    assert "\x1b[" in written
    assert re.search(r"38;5;\d+", written)  # colour of confidence
    assert re.search(r"step \d+ ", written)
    stays = Screen(written).text
    assert stays == shown("seed 3\n" + ask(*options).stdout)
    assert "█" not in stays


@pytest.mark.slow
def test_without_a_length_the_progress_says_that_the_text_goes_up_to_the_context_length(tiny_run, here):
    options = [f"--model={tiny_run.path}", "--seed=3", "--decoder=topk", "--k=1"]
    left = 32 - len("The ")
    notice = f"up to the context length: {left} tokens"
    code, written = on_terminal(["generate", "The ", *options], here)
    assert code == 0 and written.index(notice) < written.index("step 1"), "from the first frame on"
    assert notice not in Screen(written).text
    for more in (["The ", "--length=9"], ["--template=The ____"]):
        code, written = on_terminal(["generate", *more, *options], here)
        assert code == 0 and "context length" not in written, more


def test_with_no_color_a_terminal_gets_no_colour_but_still_the_canvas(tiny_run, here, ask):
    options = ["The ", "--seed=3", "--decoder=topk", "--k=1", "--temperature=1"]
    code, written = on_terminal(["generate", f"--model={tiny_run.path}", *options], here, NO_COLOR="1")
    assert code == 0, written
    assert "█" in written
    codes = {int(code) for part in re.findall(r"\x1b\[([\d;]*)m", written) for code in part.split(";") if code}
    assert codes <= {0, 1, 2, 4, 7}  # bold, dim, underlined, reverse
    assert Screen(written).text == shown("seed 3\n" + ask(*options).stdout)


def test_closed_pipe_ends_generation_silently_after_complete_lines(tiny_run, here):
    child = subprocess.Popen(
        [*COMMAND, "generate", "", f"--model={tiny_run.path}", "--decoder=topk", "--k=1", "--length=3000", "--stream"],
        cwd=here,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert child.stdout is not None
    for _ in range(5):
        chunk = os.read(child.stdout.fileno(), 1 << 20)
        assert chunk.endswith(b"\n")  # with a buffer in between, a chunk would end anywhere
        assert child.poll() is None
    child.stdout.close()
    _, err = child.communicate(timeout=60)
    assert child.returncode == 1
    assert b"Traceback" not in err
    assert b"Exception" not in err
    assert len(err.splitlines()) == 1  # the seed


# At random


def random_generations(model: LoadedModel, count: int, seed: int) -> None:
    """Texts by random settings: nothing raises, no mask is left, prompts stay, and no suppressed id is proposed."""
    draw = random.Random(seed)
    window, special = model.spec.context, torch.tensor(model.network.spec.suppressed)
    real = [i for i in range(len(model.tokenizer)) if i not in model.network.spec.suppressed]
    for n in range(count):
        settings = DecodeSettings(
            decoder=draw.choice(list(DECODERS)),
            schedule=draw.choice(SCHEDULES),
            threshold=draw.choice([0.0, 1.0, draw.random()]),
            k=draw.choice([0, 1, 3, 1000]),
            steps=draw.choice([0, 1, 2, 7, 40]),
            temperature=draw.choice([0.0, 1e-300, 1e-3, 1.0, 5.0, 1e300]),
            top_k=draw.choice([0, 1, 5, 10_000]),
            top_p=draw.choice([1.0, 0.0, 1e-9, 0.5, 0.999]),
            seed=draw.choice([0, -1, 2**64 + 3, draw.getrandbits(31)]),
        )
        rows, size = draw.randint(1, 4), draw.randrange(window)
        prompts = [model.tokenizer.decode(draw.choices(real, k=size)) for _ in range(rows)]
        length = draw.choice([0, 1, draw.randint(1, 3 * window - size)])
        what = f"{n}: {settings}, {rows} prompts of {size}, length {length}"
        start = canvas(model, prompts, length)
        try:
            step = deque(generate(model, prompts, settings, length=length), maxlen=1).pop()
        except Exception as why:
            raise AssertionError(what) from why
        given = start != model.network.spec.mask_id
        assert step.tokens.shape == (rows, size + (length or window - size)), what
        assert not torch.isin(step.tokens, special).any(), what
        assert (step.tokens[given] == start[given]).all(), what
        assert not step.masked.any(), what
        assert ((step.confidence >= 0) & (step.confidence <= 1)).all(), what
        assert [model.tokenizer.decode(row)[:size] for row in step.tokens] == prompts, what


@pytest.fixture(scope="session")
def with_unknown(tmp_path_factory, corpus_file) -> LoadedModel:
    """A model told the time, with an unknown token, whose mask is id 0."""
    layer = {
        "data": {"tokenizer": "ascii", "unknown": "token"},
        "model": {"time_conditioning": True, "conv": 3},
        "objective": {"timesteps": 8},
        "train": {"steps": 10},
    }
    run, _ = train_in(tmp_path_factory.mktemp("unknown"), "run", settings_of(corpus_file, layer))
    return load_model(str(run.path))


def test_sixty_generations_from_random_settings_leave_no_mask_and_keep_their_prompts(tiny, with_unknown):
    random_generations(tiny, 30, seed=1)
    random_generations(with_unknown, 30, seed=2)


@pytest.mark.slow
def test_a_thousand_generations_from_random_settings_leave_no_mask_and_keep_their_prompts(tiny, with_unknown):
    random_generations(tiny, 500, seed=3)
    random_generations(with_unknown, 500, seed=4)
