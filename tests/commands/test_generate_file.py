"""`tdiff generate --input FILE --output FILE`: a text for each line of a file."""

import json

import pytest

from tdiff.commands import generate_file
from tdiff.runs.lookup import DEFAULT_MODEL

LINES = [
    '"hare"',
    '{"template": "a __ to {5} w"}',
    "no JSON",
    '{"prompt": "har", "length": 9, "id": [1, null]}',
    '{"prefix": "o", "suffix": "w", "length": 3}',
    "",
    '{"prompt": "\\u00e9"}',
    '{"length": 3}',
    '{"prompt": 3}',
    '{"prompt": "a", "template": "a _"}',
    '{"template": "a _", "length": 4}',
    '{"prompt": "a", "length": -1}',
    '{"prompt": "a", "length": true}',
    '{"template": "none"}',
    "[1]",
    '{"prompt": "\\ud800"}',
    '{"prompt": "the", "top-k": 3}',
    '"the"',
]
GOOD = [1, 2, 4, 5, 18]


@pytest.fixture
def ask(cli_fast, tiny_run, here):
    (here / "in.jsonl").write_text("\n".join(LINES) + "\n")

    def run(*arguments: str, stdin: bytes = b"", source: str = "in.jsonl"):
        common = ("--model", str(tiny_run.path), "--length", "12", "--input", source)
        return cli_fast("generate", *common, *arguments, stdin=stdin)

    return run


def records(text: str) -> list[dict]:
    return [json.loads(line) for line in text.splitlines()]


def timeless(text: str) -> list[dict]:
    return [{k: v for k, v in one.items() if "second" not in k} for one in records(text)]


def test_valid_lines_get_texts_and_bad_lines_are_reported_by_number(ask, here):
    done = ask("--output", "out.jsonl", "--seed", "5")
    assert done.returncode == 1 and done.stdout == ""
    found = records((here / "out.jsonl").read_text())
    assert [one["line"] for one in found] == GOOD
    assert [one["input"] for one in found] == [json.loads(LINES[n - 1]) for n in GOOD]
    first, second, third, fourth, fifth = (one["text"] for one in found)
    assert first.startswith("hare") and len(first) == 16
    assert second[:2] == "a " and second[4:8] == " to " and second[-2:] == " w" and len(second) == 15
    assert third.startswith("har") and len(third) == 12
    assert (fourth[0], fourth[-1], len(fourth)) == ("o", "w", 5)
    assert fifth.startswith("the")
    assert [one["tokens"] for one in found] == [12, 7, 9, 3, 12]
    skipped = [line for line in done.stderr.splitlines() if line.endswith("; skipped") and ":" in line]
    assert [int(line.split(":")[1]) for line in skipped] == [3, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17]
    assert "skipped 12 of 17 lines" in done.stderr


# Longer than the window of 32, with gaps in different positions: blocks differ from row to row and window to window.
GAPS = ["the " * 3 + "____" + " hare" * 8 + " _ the", "the " + "_" * 12 + " hare" * 8 + " _ the"]


@pytest.mark.parametrize(
    "options", [("--decoder", "ancestral"), ("--decoder", "schedule", "--steps", "6", "--block", "2")]
)
def test_a_text_is_that_of_the_same_line_alone(ask, here, options):
    lines = [*LINES, *(json.dumps({"template": gaps}) for gaps in GAPS)]
    assert len({len(gaps) for gaps in GAPS}) == 1
    (here / "in.jsonl").write_text("\n".join(lines))
    ask("--output", "out.jsonl", "--seed", "5", *options)
    whole = timeless((here / "out.jsonl").read_text())
    assert len(whole) == len(GOOD) + 2
    for n in [*GOOD, len(lines) - 1, len(lines)]:
        (here / "one.jsonl").write_text("\n" * (n - 1) + lines[n - 1])
        assert timeless(ask("--seed", "5", *options, source="one.jsonl").stdout) == [
            one for one in whole if one["line"] == n
        ]


def test_a_bad_line_is_reported_on_each_run_and_written_after_it_is_fixed(ask, here):
    ask("--output", "out.jsonl", "--seed", "5")
    before = (here / "out.jsonl").read_text()
    again = ask("--output", "out.jsonl")
    assert again.returncode == 1 and "skipped 12 of 17 lines" in again.stderr
    assert (here / "out.jsonl").read_text() == before
    (here / "in.jsonl").write_text("\n".join(['"the"' if n == 2 else line for n, line in enumerate(LINES)]))
    mended = ask("--output", "out.jsonl")
    assert "skipped 11 of 17 lines" in mended.stderr
    after = (here / "out.jsonl").read_text()
    assert after.startswith(before) and [one["line"] for one in records(after)] == [*GOOD, 3]


@pytest.mark.parametrize("kept", [0, 1, 3, 5])
@pytest.mark.parametrize("torn", ["", '{"line": 4, "inp'])
def test_interrupted_output_is_resumed(ask, here, kept, torn):
    ask("--output", "out.jsonl", "--seed", "5")
    whole = (here / "out.jsonl").read_text()
    lines = whole.splitlines(keepends=True)
    (here / "out.jsonl").write_text("".join(lines[:kept]) + torn)
    again = ask("--output", "out.jsonl", *(("--seed", "5") if kept == 0 else ()))  # the seed is that of the file
    assert timeless((here / "out.jsonl").read_text()) == timeless(whole)
    assert (here / "out.jsonl").read_text().startswith("".join(lines[:kept]))
    assert (f"has {kept} of 17 texts: resuming" in again.stderr) == (kept > 0)


def test_ctrl_c_saves_finished_results_and_says_how_to_resume(ask, here, monkeypatch):
    def until_stopped(*arguments):
        yield next(texts(*arguments))
        raise KeyboardInterrupt

    texts = generate_file._texts
    with monkeypatch.context() as patched:
        patched.setattr(generate_file, "_texts", until_stopped)
        stopped = ask("--output", "out.jsonl", "--seed", "5")
    assert stopped.returncode == 130
    assert stopped.stderr.endswith("stopped; out.jsonl has all finished results: the same command resumes it\n")
    assert [one["line"] for one in records((here / "out.jsonl").read_text())] == GOOD[:1]
    ask("--output", "out.jsonl", "--seed", "5")
    assert [one["line"] for one in records((here / "out.jsonl").read_text())] == GOOD


def test_many_lines_are_written_in_their_order_in_batches(ask, here, monkeypatch):
    monkeypatch.setattr(generate_file, "_BATCH", 3)
    monkeypatch.setattr(generate_file, "_AHEAD", 7)
    prompts = [f"{'hare'[: 1 + n % 4]}" for n in range(20)]
    (here / "many.jsonl").write_text("".join(json.dumps(prompt) + "\n" for prompt in prompts))
    done = ask("--seed", "1", source="many.jsonl")
    assert done.returncode == 0
    found = records(done.stdout)
    assert [one["line"] for one in found] == list(range(1, 21))
    assert [one["prompt"] for one in found] == prompts


def test_stdin_and_stdout_are_files_too(ask):
    done = ask("--seed", "1", source="-", stdin=b'"har"\n')
    assert [one["line"] for one in records(done.stdout)] == [1]


@pytest.mark.parametrize("block", ["0", "4"])
def test_every_decoder_setting_is_passed_on(ask, block):
    done = ask("--seed", "1", "--block", block, "--decoder", "remdm", "--remask", "loop", source="in.jsonl")
    assert {one["settings"]["remask"] for one in records(done.stdout)} == {"loop"}
    assert {one["settings"]["block"] for one in records(done.stdout)} == {int(block)}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--input", "no.jsonl"), "the input 'no.jsonl' cannot be read: No such file or directory"),
        (("--input", "blank.jsonl"), "the input 'blank.jsonl' has no lines"),
        (("--input", "in.jsonl", "--samples", "2"), "repeat a line instead of using --samples"),
        (("--input", "in.jsonl", "a prompt"), "leave out the one on the command line"),
        (("--input", "in.jsonl", "--prefix", "a"), "leave out the one on the command line"),
        (("--input", "in.jsonl", "--stream"), "--input writes many"),
        (("--input", "in.jsonl", "--trace", "t"), "--input writes many"),
        (("--output", "out.jsonl"), "--output requires --input FILE"),
        (("--input", "in.jsonl", "--threshold", "2"), "threshold must lie between 0 and 1"),
        (
            ("--input", "in.jsonl", "--output", "other.txt"),
            "'other.txt' exists and is not one of tdiff generate --input",
        ),
        (("--input", "in.jsonl", "--output", "no/out.jsonl"), "cannot be written"),
        (("--input", "in.jsonl", "--output", "begun.jsonl", "--seed", "6"), "was written with seed 5, not 6"),
        (("--input", "in.jsonl", "--output", "begun.jsonl", "--top-k", "6"), "was written with top-k 0, not 6"),
        (("--input", "in.jsonl", "--output", "begun.jsonl", "--length", "20"), "was written with another --length"),
        (("--input", "in.jsonl", "--output", "whole.txt"), "'whole.txt' exists and is not one of tdiff generate"),
        (("--input", "in.jsonl", "--output", "in.jsonl"), "is the input itself"),
        (("--input", "in.jsonl", "--output", "-"), "without it the lines go to stdout"),
        (("--input", "in.jsonl", "--length", "-5"), "--length must be at least 1"),
        (("--input", "in.jsonl", "--length", "100000000000"), "must be at most 10,000,000"),
        (("--input", "in.jsonl", "--output", "odd.jsonl"), "'odd.jsonl' exists and is not one"),
        (("--input", "blank2.jsonl", "--output", "begun.jsonl"), "was written from another input: its line 1 "),
    ],
)
def test_refused_request_changes_no_file(ask, cli_fast, tiny_run, here, arguments, says):
    ask("--output", "begun.jsonl", "--seed", "5")
    before = (here / "begun.jsonl").read_bytes()
    (here / "other.txt").write_text("not this\n")
    (here / "whole.txt").write_text("my only copy, and no end of line")
    (here / "odd.jsonl").write_text('{"line": "1", "input": "x", "seed": "x", "settings": [1]}\n')
    (here / "blank.jsonl").write_text("\n \n")
    (here / "blank2.jsonl").write_text('"x"\n' * 18)
    refusal = cli_fast("generate", "--model", str(tiny_run.path), *arguments).refused()
    assert says in refusal
    assert (here / "begun.jsonl").read_bytes() == before
    assert (here / "other.txt").read_text() == "not this\n"
    assert (here / "whole.txt").read_text() == "my only copy, and no end of line"
    assert (here / "in.jsonl").read_text().startswith(LINES[0])


def test_plain_characters_that_replace_typographic_ones_are_noted_once(cli_fast, here):
    (here / "in.jsonl").write_text('"plain"\n"King’s"\n"Queen’s"\n', "utf-8")
    done = cli_fast("generate", "--device=cpu", "--input=in.jsonl", "--length=2", "--seed=1")
    note = f"{DEFAULT_MODEL} has no token for some characters of line 2, and perhaps of later ones; plain"
    assert done.returncode == 0 and done.stderr.count("plain ones replace them") == 1 and note in done.stderr
