"""Models by name, from a small hub on this machine: what is fetched, what is kept, and who is asked when."""

import io
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from tdiff import hub as hub_files
from tdiff.commands.progress import fetching
from tdiff.core.evaluation.causal_judge import CausalJudge
from tdiff.core.models.folder import load_model
from tdiff.protocol.events import TraceEnd
from tdiff.protocol.messages import Generate, Ready
from tdiff.runs import run
from tdiff.watch.generation.process import Child, command
from tests.support.hub_server import NAME, NEVER, cache, files_asked, half, refusal
from tests.support.runs import environment

# A model by name.


def test_a_name_on_the_hub_generates_and_a_second_time_asks_nobody(published, cli_fast, roberta):
    asked = ("generate", "the hare", "--model", NAME, "--length", "6", "--seed", "1", "--stream")
    done = cli_fast(*asked)
    assert done.returncode == 0, done
    line, seed = done.stderr.splitlines()
    assert seed == "seed 1"
    size = sum(map(len, roberta.values())) / 1e3
    assert line == f"fetching {NAME} ({size:.0f} kB) ..."
    assert json.loads(done.stdout.splitlines()[0])["model"] == "tiny-roberta"
    assert files_asked(published) == set(roberta)

    published.asked.clear()
    again = cli_fast(*asked)
    assert (again.returncode, again.stderr) == (0, "seed 1\n")
    assert [json.loads(x) | {"seconds": 0} for x in again.stdout.splitlines()] == [
        json.loads(x) | {"seconds": 0} for x in done.stdout.splitlines()
    ]
    assert published.asked == []


def test_only_what_is_read_is_fetched_and_weights_come_last(published, roberta):
    folder = hub_files.find(NAME)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == roberta
    wanted = [path.rpartition("/")[2] for path in published.asked if "/resolve/" in path]
    assert sorted(wanted) == sorted(roberta) and wanted[-1] == "model.safetensors"
    assert len(published.asked) == len(roberta) + 2  # and the list of them, and the way to a large file
    assert not [path for path in cache() if path.endswith((".bin", ".py", ".incomplete"))]


def test_a_repository_may_have_no_owner_and_a_revision_is_no_part_of_its_label(hub, roberta):
    commit = hub.publish("tiny", roberta, "v1.0")
    for name in ("tiny", "tiny@v1.0", f"tiny@{commit}"):
        assert load_model(name).name == "tiny"
    assert load_model(str(hub_files.find("tiny"))).name == "tiny"


def test_a_model_of_our_own_may_lie_on_the_hub(hub, tiny_run):
    hub.publish("me/tales", {path.name: path.read_bytes() for path in tiny_run.model.iterdir()})
    model = load_model("me/tales")
    assert (model.name, model.origin.steps) == ("tales", 30)


def test_weights_in_several_files_are_fetched_by_their_index(hub, roberta, tmp_path):
    (tmp_path / "whole.safetensors").write_bytes(roberta["model.safetensors"])
    tensors = load_file(tmp_path / "whole.safetensors")
    names, files = sorted(tensors), dict(roberta)
    del files["model.safetensors"]
    shards = {}
    for n, some in enumerate((names[::2], names[1::2]), 1):
        shard = f"model-0000{n}-of-00002.safetensors"
        save_file({name: tensors[name] for name in some}, tmp_path / shard, {"format": "pt"})
        files[shard] = (tmp_path / shard).read_bytes()
        shards |= dict.fromkeys(some, shard)
    files["model.safetensors.index.json"] = json.dumps({"weight_map": shards}).encode()
    hub.publish(NAME, files | NEVER)
    assert load_model(NAME).name == "tiny-roberta"
    assert files_asked(hub) == set(files)
    hub.asked.clear()
    folder = hub_files.find(NAME)
    assert not hub.asked
    (folder / "model-00002-of-00002.safetensors").unlink()
    assert hub_files.find(NAME) == folder and len(hub.asked) == 1  # the blob is still there


def test_a_judge_may_have_a_name_on_the_hub(hub, tmp_path):
    from tests.core.evaluation.test_causal_judge import make as make_gpt

    folder = make_gpt(tmp_path / "gpt", bos=True)
    hub.publish("org/tiny-gpt", {path.name: path.read_bytes() for path in folder.iterdir()})
    judge = CausalJudge("org/tiny-gpt")
    assert judge.name == "tiny-gpt" and judge.nats("", "the hare") > 0


def test_what_lies_here_goes_before_the_hub(published, roberta):
    here = Path(NAME)
    here.mkdir(parents=True)
    for name, data in roberta.items():
        (here / name).write_bytes(data)
    assert hub_files.find(NAME) == here
    assert not published.asked


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("gpt2", ("gpt2", "")),
        ("kuleshov-group/mdlm-owt", ("kuleshov-group/mdlm-owt", "")),
        ("a/Phi-3.5_x@v1.0", ("a/Phi-3.5_x", "v1.0")),
        ("a/b@refs/pr/1", ("a/b", "refs/pr/1")),
    ],
)
def test_a_name_of_the_hub_has_a_repository_and_a_revision(name, parts):
    assert run.hub_name(name) == parts


@pytest.mark.parametrize(
    "name",
    [
        *("./gpt2", "../gpt2", "~/gpt2", "/gpt2", "gpt2/", "a/b/c", "a//b", "a\\b", "a:b", "a b", "a\n", ""),
        *("a--b", "a..b", "-a", ".a", "a-", "a.", "a@", "a@/x", "a@../x", "a@x@y", "@x", "café", "x" * 97),
        *("model.pt", "a/pytorch_model.BIN", "a/model.safetensors"),
    ],
)
def test_a_path_is_no_name_of_the_hub(name):
    assert run.hub_name(name) is None


@pytest.mark.parametrize(
    "name", ["./roberta", "~/roberta", "org/tiny/roberta", "model.safetensors", "nowhere/", "a" * 99]
)
def test_a_path_is_not_asked_for(name, published):
    assert refusal(name).startswith(f"no model {name!r}: neither a folder nor a name; there are: ")
    assert not published.asked


def test_a_path_below_a_folder_or_a_run_is_not_asked_for(published):
    Path("org").mkdir()
    for name in (NAME, "shakespeare/modell"):
        assert "neither a folder nor a name" in refusal(name)
    assert not published.asked


def test_a_slip_in_the_name_of_a_run_is_answered_at_once_as_ever(published, cli_fast, roberta):
    line = "no model 'shakespare': neither a folder nor a name; did you mean shakespeare?"
    assert cli_fast("generate", "--model", "shakespare").refused() == line
    assert cli_fast("watch", "--model", "shakespare").refused() == line
    assert not published.asked
    published.publish("shakespare", roberta)  # who means it says which commit ...
    assert hub_files.find("shakespare@main").is_dir()
    published.asked.clear()
    assert load_model("shakespare").name == "shakespare"  # ... and then it is here
    assert not published.asked


# Revisions, and what is new.


def test_a_name_stays_what_it_was_until_its_newest_is_asked_for(published, roberta):
    old = hub_files.find(NAME)
    new = published.publish(NAME, roberta | {"config.json": roberta["config.json"] + b"\n"})
    assert hub_files.find(NAME) == old
    published.asked.clear()
    assert hub_files.find(f"{NAME}@main").name == new
    assert files_asked(published) == {"config.json"}  # the weights are the same
    published.asked.clear()
    assert hub_files.find(NAME).name == hub_files.find(f"{NAME}@{new}").name == new
    assert hub_files.find(f"{NAME}@{old.name}") == old
    assert not published.asked


def test_a_new_commit_that_cannot_be_fetched_leaves_the_old_one(published, roberta):
    old = hub_files.find(NAME)
    published.publish(NAME, roberta | {"config.json": roberta["config.json"] + b"\n"})
    published.instead["config.json"] = half
    line = refusal(f"{NAME}@main")
    assert "broke" in line and line.endswith("; without @main the one in the cache is taken")
    assert hub_files.find(NAME) == old


# Without network.


def test_without_network_a_model_in_the_cache_works_and_another_is_told_of(published, cli_fast, monkeypatch):
    hub_files.find(NAME)
    published.asked.clear()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name in (NAME, f"{NAME}@main"):
        assert cli_fast("generate", "the", "--model", name, "--length", "2", "--seed", "1").returncode == 0
    line = refusal("org/another")
    assert "HF_HUB_OFFLINE is set, and " in line and line.endswith("has not all of it: fetch it once with network")
    assert not published.asked


def test_what_other_programs_fetched_is_taken_and_they_take_what_we_fetched(published, roberta, monkeypatch):
    from huggingface_hub import scan_cache_dir, try_to_load_from_cache

    folder = hub_files.find(NAME)
    place = Path(os.environ["HF_HOME"]) / "hub"
    for name in roberta:
        assert try_to_load_from_cache(NAME, name, cache_dir=place) == str(folder / name)
    told = scan_cache_dir(place)
    assert not told.warnings and [one.repo_id for one in told.repos] == [NAME]
    for path in folder.iterdir():  # as on a system without links
        data = path.read_bytes()
        path.unlink()
        path.write_bytes(data)
    shutil.rmtree(folder.parents[1] / "blobs")
    published.asked.clear()
    assert load_model(NAME).name == "tiny-roberta" and not published.asked
    monkeypatch.setenv("HF_HUB_CACHE", str(place))
    monkeypatch.delenv("HF_HOME")
    assert hub_files.find(NAME) == folder and not published.asked


def test_a_snapshot_that_another_program_fetched_in_part_is_made_whole(published, roberta):
    folder = hub_files.find(NAME)
    for name in roberta:
        if name.startswith("tokenizer"):
            (folder / name).resolve().unlink()
            (folder / name).unlink()
    published.asked.clear()
    assert load_model(NAME).name == "tiny-roberta"
    assert files_asked(published) == {name for name in roberta if name.startswith("tokenizer")}


# The tokenizer of another.


def test_a_tokenizer_is_fetched_without_its_model(hub, roberta):
    hub.publish("gpt2", roberta | NEVER | {"vocab.json": b"{}", "merges.txt": b"#", "vocab.bpe": b"#"})
    folder = hub_files.tokenizer_of("gpt2")
    wanted = {"tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt"}
    assert {path.name for path in folder.iterdir()} == files_asked(hub) == wanted
    hub.asked.clear()
    assert hub_files.tokenizer_of("gpt2") == folder and not hub.asked
    assert hub_files.find("gpt2") == folder  # the rest of it
    assert files_asked(hub) == {"config.json", "model.safetensors", *(set(roberta) - wanted)}


def test_a_tokenizer_that_cannot_be_had_is_told_of(hub):
    assert refusal("gpt2", hub_files.tokenizer_of) == (
        "no tokenizer of 'gpt2': the Hugging Face hub has no such repository"
    )
    assert "that is no name on the Hugging Face hub" in refusal("./gpt2", hub_files.tokenizer_of)


def test_a_model_that_is_published_without_a_tokenizer_is_whole_without_one_where_it_is_an_mdlm(hub, roberta):
    for kind, again in (("mdlm", 0), ("roberta", 1)):
        config = json.loads(roberta["config.json"]) | {"model_type": kind}
        files = {"config.json": json.dumps(config).encode(), "model.safetensors": roberta["model.safetensors"]}
        hub.publish(f"org/{kind}", files)
        folder = hub_files.find(f"org/{kind}")
        hub.asked.clear()
        assert hub_files.find(f"org/{kind}") == folder
        assert len(hub.asked) == again


# What is said meanwhile, and by whom.


def test_on_a_terminal_a_bar_is_drawn_and_taken_away_again(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm-256color")
    with fetching("org/\x1b[31mtiny"):
        pass
    assert sys.stderr.getvalue() == ""
    with fetching("org/\x1b[31mtiny") as tell:
        tell(0, 2_000_000)
        tell(1_000_000, 2_000_000)
    drawn = sys.stderr.getvalue()
    assert "fetching org/␛[31mtiny" in drawn and "1.0/2.0 MB" in drawn


@pytest.mark.parametrize(
    ("size", "says"),
    [(999, "999 bytes"), (1500, "1.5 kB"), (498_818_054, "499 MB"), (9_900_000, "9.9 MB"), (1_520_000_000, "1.5 GB")],
)
def test_in_a_pipe_one_line_tells_how_much_is_fetched(size, says, capsys):
    with fetching("roberta-base") as tell:
        for done in (0, size // 2, size):
            tell(done, size)
    assert capsys.readouterr() == ("", f"fetching roberta-base ({says}) ...\n")


def test_the_process_of_a_watch_fetches_the_model_and_the_view_does_not(published, monkeypatch):
    code = (
        "import sys\nfrom tdiff.commands import watch\nfrom tdiff.watch.options import Options\n"
        f"watch._check(Options(model={NAME!r}))\n"
        "print({'torch', 'transformers', 'huggingface_hub'} & set(sys.modules))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("set()\n", "")
    assert not published.asked
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    child = Child(command(NAME, "cpu"))
    try:
        ready = until(child, Ready)
        assert ready.model == "tiny-roberta"
        assert [line for line in child.said if line.startswith(f"fetching {NAME} (")] == child.said
        child.send(Generate(id=1, prompt="the hare", length=4))
        assert until(child, TraceEnd).text.startswith("the hare")
    finally:
        child.close()


def until(child: Child, kind: type, seconds: float = 60.0):
    """The first answer of that kind."""
    patience = time.monotonic() + seconds
    while time.monotonic() < patience and child.alive:
        for answer in child.take():
            if isinstance(answer, kind):
                return answer
        time.sleep(0.01)
    raise AssertionError((child.reason, child.said))
