"""Every command of the README and the guide runs: what is written there is true."""

import re
import shlex

import pytest
import shellingham

from tdiff import guide
from tests.core.evaluation.test_causal_judge import make as make_causal
from tests.support.classifying import rows_of
from tests.support.paths import ROOT
from tests.support.runs import SET_TINY

SHAKESPEARE = ROOT.parent / "shared" / "data" / "tinyshakespeare.txt"
PAGES = {"README": (ROOT / "README.md").read_text("utf-8"), **guide.pages()}


def commands(page: str) -> list[list[str]]:
    """The tdiff commands of a page's shell blocks, in order; of a block with output, the lines after a $."""
    found = []
    for kind, block in re.findall(r"^```(sh|console)\n(.*?)^```", page, re.DOTALL | re.MULTILINE):
        lines = [line.removeprefix("$ ") for line in block.splitlines() if kind == "sh" or line.startswith("$ ")]
        words = [shlex.split(line, comments=True) for line in lines]
        found += [w[1:] for w in words if w and w[0] == "tdiff"]
    return found


def smaller(arguments: list[str]) -> list[str]:
    """A command with less work: two steps of a tiny model, a snapshot, fewer tokens, a small text to evaluate."""
    if arguments[:2] == ["eval", "shakespeare"] and "--data" not in arguments:
        return [*arguments, "--data=mytexts"]
    if arguments[0] == "generate" and not {"--length", "--input", "--template", "--prefix"} & set(arguments):
        return [*arguments, "--length=64"]
    if arguments[0] == "generate" and "--length" in arguments:
        length = arguments.index("--length") + 1
        # The context length is 256: beyond it the canvas slides, once being enough.
        return [*arguments[:length], str(min(int(arguments[length]), 264)), *arguments[length + 1 :]]
    if arguments[0] == "watch" and "--race" in arguments:
        return ["watch", "--doctor"]  # a race needs a terminal
    if arguments[0] == "watch" and not {"--once", "--doctor"} & set(arguments):
        return [*arguments, "--once"]
    if arguments[0] != "train" or "--resume" in arguments:
        return arguments
    if "--init" in arguments:  # whose model has its own sizes
        return [*arguments, "--batch-size=2", "--context=4", "--minutes=0", "--steps=2", "--device=cpu"]
    keep = [option for option in SET_TINY if "context" not in option]
    return [*arguments, *keep, "--set=train.compile=off", "--minutes=0", "--steps=2", "--device=cpu"]


# Minutes of trainings and evaluations together.
_LONG = ("the-bound", "masking-and-schedules", "decoders", "adding", "coming-from", "sharing")


@pytest.mark.parametrize("page", [pytest.param(p, marks=pytest.mark.slow) if p in _LONG else p for p in PAGES])
def test_every_command_of_the_page_runs(page, cli_fast, here, corpus_file, zoo, monkeypatch):
    (here / "checkpoints").mkdir()
    (here / "mytexts").mkdir()
    (here / "mytexts" / "tale.txt").write_text(corpus_file.read_text("utf-8"), "utf-8")
    (here / "prompts.jsonl").write_text('"KING:"\n{"template": "To be, or ____ to be"}\n')
    rows_of(here / "reviews.jsonl", 20)
    rows_of(here / "unseen.jsonl", 12, seed=1)
    (here / "my-roberta").symlink_to(zoo["roberta"])
    make_causal(here / "my-gpt2", bos=True)
    if SHAKESPEARE.exists():
        monkeypatch.setenv("TDIFF_SHAKESPEARE", str(SHAKESPEARE))
    # The installation of completion asks which shell started it, and writes to its files.
    monkeypatch.setattr(shellingham, "detect_shell", lambda: ("bash", "/bin/bash"))
    monkeypatch.setenv("HOME", str(here))
    found = commands(PAGES[page])
    assert found, "a page without a command to try"
    skipped = []
    for arguments in found:
        wants_it = (
            arguments[:2] == ["eval", "shakespeare"] or "ascii" in arguments
        )  # what stands in for it is not ASCII
        if wants_it and not SHAKESPEARE.exists():
            skipped.append(" ".join(["tdiff", *arguments]))
            continue
        if "--resume" in arguments:  # on the page the run was interrupted; here it has finished
            assert "is finished" in cli_fast(*arguments).refused()
            continue
        done = cli_fast(*smaller(arguments))
        assert done.returncode == 0, (arguments, done.stderr)
    # All the others have run and passed. These evaluate the shipped model on the text that it was trained on, which the
    # project does not ship, and on another text they would print another figure than the page.
    if skipped:
        pytest.skip(f"Tiny Shakespeare is not beside the project; not tried: {'; '.join(skipped)}")


def sessions(page: str) -> list[tuple[list[str], list[str]]]:
    """The commands of a page's console blocks, each with the lines that are printed below it."""
    found = []
    for block in re.findall(r"^```console\n(.*?)^```", page, re.DOTALL | re.MULTILINE):
        for part in re.split(r"^\$ tdiff ", block, flags=re.MULTILINE)[1:]:
            command, *lines = part.splitlines()
            found.append((shlex.split(command), lines))
    return found


def test_output_shown_below_a_command_matches_the_command(cli_fast):
    found = [session for page in PAGES.values() for session in sessions(page)]
    assert found
    for arguments, lines in found:
        done = cli_fast(*arguments)
        assert done.returncode == 0, done.stderr
        whole = lines[-1] != "..."
        printed = done.stdout.splitlines()
        assert (printed if whole else printed[: len(lines) - 1]) == (lines if whole else lines[:-1]), arguments


def test_the_python_of_the_readme_runs(here):
    [code] = re.findall(r"^```python\n(.*?)^```", PAGES["README"], re.DOTALL | re.MULTILINE)
    printed = []

    class ThreeSteps(Exception):
        pass

    def note(*values):
        printed.append(values)
        if len(printed) == 3:
            raise ThreeSteps

    with pytest.raises(ThreeSteps):
        exec(code, {"print": note})
    assert [index for index, _ in printed] == [1, 2, 3]
    masks = [text.count("█") for _, text in printed]
    assert masks == sorted(set(masks), reverse=True)
    assert all(text.startswith("Once upon a time") for _, text in printed)


def test_the_list_of_commands_is_not_cut_short_at_80_columns(cli_fast):
    listed = cli_fast("--help").stdout.partition("Commands:\n")[2].splitlines()
    assert len(listed) >= 4
    assert not [line for line in listed if line.endswith("...") or len(line) > 80]


def test_the_readme_is_short_enough_to_be_read():
    assert len(PAGES["README"].splitlines()) < 250


def test_the_guide_lists_its_pages_and_names_the_nearest(cli_fast):
    listed = cli_fast("guide").stdout
    assert all(f"tdiff guide {name}" in listed for name in guide.pages())
    assert "did you mean the-bound?" in cli_fast("guide", "the-bond").refused()


def test_no_document_names_a_path_of_a_machine():
    configs = [path for path in (ROOT / "configs").rglob("*") if path.is_file()]
    for path in [*ROOT.glob("*.md"), *(ROOT / "tdiff" / "guide").glob("*.md"), *configs]:
        assert not re.search(r"(?<![\w.~])/(work|root|home|Users)/", path.read_text("utf-8")), path
