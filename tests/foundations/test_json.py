"""All JSON output is valid for any numbers and texts: one writer for all commands."""

import ast
import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

import tdiff
from tdiff.visible import finite, json_line, visible_line

MANY = examples(derandomize=True, deadline=None, max_examples=500, database=None)
WRITERS_OF_FILES = {
    "visible.py",  # the only writer of printed JSON
    "runs/index.py",
    "runs/per_class.py",
    "runs/process.py",
    "runs/retention.py",
    "runs/trackers/services.py",
    "watch/choices.py",
    "watch/view_settings.py",
    "watch/devices/nvml.py",  # the answer of a child process
    "commands/generate_file.py",  # a line that was read, as it would have stood in the input
    "commands/detach.py",
    "commands/fetch.py",
    "commands/on_host.py",
    "commands/detached.py",
    "core/models/files.py",
    "core/models/folder.py",
    "core/models/tokenizers.py",
    "core/models/hf/load.py",
    "core/training/token_files.py",
    "remote/far.py",
    "remote/install.py",
    "remote/known.py",
    "remote/link.py",  # what crosses the connection
    "report/export/cast.py",
    "report/export/html.py",  # within a page, escaped for HTML
}

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.just("\ud800\x1b[2J\u202e"),
    lambda parts: (
        st.lists(parts, max_size=4)
        | st.tuples(parts, parts)
        | st.dictionaries(st.text(max_size=5) | st.floats(), parts, max_size=4)
    ),
    max_leaves=12,
)


def strictly(text: str):
    """Parse as JSON, which has no NaN and no Infinity."""

    def refuse(name: str):
        raise AssertionError(f"{name} is no JSON")

    return json.loads(text, parse_constant=refuse)


@MANY
@given(anything, st.booleans())
def test_json_line_is_valid_json_and_safe_to_print(value, compact):
    line = json_line(value, compact=compact)
    assert visible_line(line) == line and "\n" not in line
    assert json_line(strictly(line), compact=compact) == line or '"' in line  # keys that are the same as text meet


@MANY
@given(st.lists(st.floats()))
def test_numbers_that_are_not_finite_become_null(numbers):
    assert strictly(json_line(numbers)) == [n if math.isfinite(n) else None for n in numbers] == finite(numbers)


def test_no_other_module_writes_json_to_stdout():
    root = Path(tdiff.__file__).parent
    makers = set()
    for path in root.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Attribute) and node.attr in ("dumps", "dump") and ast.unparse(node.value) == "json":
                makers.add(path.relative_to(root).as_posix())
    assert makers <= WRITERS_OF_FILES


def test_an_interval_from_too_few_mask_samples_is_null(cli_fast, tiny_run, here):
    (here / "short.txt").write_text("the hare sleeps. " * 2)
    asked = ["eval", str(tiny_run.path), "--data", "short.txt", "--draws", "1"]
    result = strictly(cli_fast(*asked, "--json").stdout)
    assert result["interval_95"] == [None, None] and result["nats_per_token"] > 0
    assert "too few mask samples for an interval" in cli_fast(*asked).stdout


@pytest.mark.parametrize("number", ["NaN", "-Infinity", "1e999"])
def test_an_input_copied_to_the_output_is_valid_json_and_resumable(number, cli_fast, tiny_run, here):
    (here / "in.jsonl").write_text(f'{{"prompt": "the ", "length": 3, "score": {number}}}\n')
    asked = ["generate", f"--model={tiny_run.path}", "--input=in.jsonl", "--output=out.jsonl"]
    assert cli_fast(*asked).returncode == 0
    assert strictly((here / "out.jsonl").read_text())["input"] == {"prompt": "the ", "length": 3, "score": None}
    assert cli_fast(*asked).returncode == 0
