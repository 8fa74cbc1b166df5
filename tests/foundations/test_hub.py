"""Models by name, from a small Hub on this machine: what is downloaded, what is cached, and when the Hub is asked."""

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

from tdiff import hub as models_hub
from tdiff.commands.progress import download_progress
from tdiff.core.evaluation.causal_judge import CausalJudge
from tdiff.core.models.load import load_model
from tdiff.protocol.messages import Generate, Ready
from tdiff.protocol.trace import TraceEnd
from tdiff.runs import lookup
from tdiff.watch.generation.process import Child, command
from tests.support.hub_server import NAME, NEVER, cache, files_asked, half, refusal
from tests.support.runs import environment

# A model by name.


def test_a_model_is_downloaded_once_and_then_used_without_requests(published, cli_fast, roberta):
    command_line = ("generate", "the hare", "--model", NAME, "--length", "6", "--seed", "1", "--stream")
    done = cli_fast(*command_line)
    assert done.returncode == 0, done
    line, seed = done.stderr.splitlines()
    assert seed == "seed 1"
    size = sum(map(len, roberta.values())) / 1e3
    assert line == f"fetching {NAME} ({size:.0f} kB) ..."
    assert json.loads(done.stdout.splitlines()[0])["model"] == "tiny-roberta"
    assert files_asked(published) == set(roberta)

    published.asked.clear()
    again = cli_fast(*command_line)
    assert (again.returncode, again.stderr) == (0, "seed 1\n")
    assert [json.loads(x) | {"seconds": 0} for x in again.stdout.splitlines()] == [
        json.loads(x) | {"seconds": 0} for x in done.stdout.splitlines()
    ]
    assert published.asked == []


def test_only_the_files_that_are_read_are_downloaded_and_the_weights_last(published, roberta):
    folder = models_hub.find(NAME)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == roberta
    names = [path.rpartition("/")[2] for path in published.fetched]
    assert sorted(set(names) - {"main"}) == sorted(roberta) and names[-1] == "model.safetensors"
    assert len(names) == len(roberta) + 1  # and the listing
    assert len(cache()) == len(roberta)


def test_a_label_has_no_owner_and_no_revision(hub, roberta):
    commit = hub.publish("tiny", roberta, "v1.0")
    for name in ("tiny", "tiny@v1.0", f"tiny@{commit}"):
        assert load_model(name).name == "tiny"
    assert load_model(str(models_hub.find("tiny"))).name == "tiny"


def test_a_tdiff_model_can_be_on_the_hub(hub, tiny_run):
    hub.publish("me/tales", {path.name: path.read_bytes() for path in tiny_run.model.iterdir()})
    model = load_model("me/tales")
    assert (model.name, model.origin.steps) == ("tales", 30)


def test_weights_in_several_files_are_downloaded_by_their_index(hub, roberta, tmp_path):
    (tmp_path / "whole.safetensors").write_bytes(roberta["model.safetensors"])
    tensors = load_file(tmp_path / "whole.safetensors")
    names, files = sorted(tensors), dict(roberta)
    del files["model.safetensors"]
    shards = {}
    for n, part in enumerate((names[::2], names[1::2]), 1):
        shard = f"model-0000{n}-of-00002.safetensors"
        save_file({name: tensors[name] for name in part}, tmp_path / shard, {"format": "pt"})
        files[shard] = (tmp_path / shard).read_bytes()
        shards |= dict.fromkeys(part, shard)
    files["model.safetensors.index.json"] = json.dumps({"weight_map": shards}).encode()
    hub.publish(NAME, files | NEVER)
    assert load_model(NAME).name == "tiny-roberta"
    assert files_asked(hub) == set(files)
    hub.asked.clear()
    hub.fetched.clear()
    folder = models_hub.find(NAME)
    assert not hub.asked
    (folder / "model-00002-of-00002.safetensors").unlink()
    assert models_hub.find(NAME) == folder and len(hub.fetched) == 1  # the listing: the blob is still cached


def test_a_causal_judge_can_be_on_the_hub(hub, tmp_path):
    from tests.core.evaluation.test_causal_judge import make as make_gpt

    folder = make_gpt(tmp_path / "gpt", bos=True)
    hub.publish("org/tiny-gpt", {path.name: path.read_bytes() for path in folder.iterdir()})
    judge = CausalJudge("org/tiny-gpt")
    assert judge.name == "tiny-gpt" and judge.nats("", "the hare") > 0


def test_a_local_folder_comes_before_the_hub(published, roberta):
    local = Path(NAME)
    local.mkdir(parents=True)
    for name, data in roberta.items():
        (local / name).write_bytes(data)
    assert models_hub.find(NAME) == local
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
def test_a_hub_name_has_a_repository_and_a_revision(name, parts):
    assert lookup.hub_name(name) == parts


@pytest.mark.parametrize(
    "name",
    [
        *("./gpt2", "../gpt2", "~/gpt2", "/gpt2", "gpt2/", "a/b/c", "a//b", "a\\b", "a:b", "a b", "a\n", ""),
        *("a--b", "a..b", "-a", ".a", "a-", "a.", "a@", "a@/x", "a@../x", "a@x@y", "@x", "café", "x" * 97),
        *("model.pt", "a/pytorch_model.BIN", "a/model.safetensors"),
    ],
)
def test_a_path_is_not_a_hub_name(name):
    assert lookup.hub_name(name) is None


@pytest.mark.parametrize(
    "name", ["./roberta", "~/roberta", "org/tiny/roberta", "model.safetensors", "nowhere/", "a" * 99]
)
def test_the_hub_is_not_asked_for_a_path(name, published):
    assert refusal(name).startswith(f"no model {name!r}: neither a folder nor a name; there are: ")
    assert not published.asked


def test_the_hub_is_not_asked_for_a_path_below_a_folder_or_a_run(published):
    Path("org").mkdir()
    for name in (NAME, "shakespeare/modell"):
        assert "neither a folder nor a name" in refusal(name)
    assert not published.asked


def test_a_misspelt_run_name_is_refused_without_requests(published, cli_fast, roberta):
    line = "no model 'shakespare': neither a folder nor a name; did you mean shakespeare?"
    assert cli_fast("generate", "--model", "shakespare").refused() == line
    assert cli_fast("watch", "--model", "shakespare").refused() == line
    assert not published.asked
    published.publish("shakespare", roberta)  # a revision says that the Hub is meant
    assert models_hub.find("shakespare@main").is_dir()
    published.asked.clear()
    assert load_model("shakespare").name == "shakespare"  # now it is cached
    assert not published.asked


# Revisions and updates.


def test_a_cached_commit_stays_until_its_branch_is_asked_for(published, roberta):
    old = models_hub.find(NAME)
    new = published.publish(NAME, roberta | {"config.json": roberta["config.json"] + b"\n"})
    assert models_hub.find(NAME) == old
    published.fetched.clear()
    assert models_hub.find(f"{NAME}@main").name == new
    assert files_asked(published) == {"config.json"}  # the weights are the same
    published.asked.clear()
    published.asked.clear()
    assert models_hub.find(NAME).name == models_hub.find(f"{NAME}@{new}").name == new
    assert models_hub.find(f"{NAME}@{old.name}") == old
    assert not published.asked


def test_a_failed_update_leaves_the_old_commit(published, roberta):
    old = models_hub.find(NAME)
    published.publish(NAME, roberta | {"config.json": roberta["config.json"] + b"\n"})
    published.instead["config.json"] = half
    line = refusal(f"{NAME}@main")
    assert "broke" in line and line.endswith("; without @main the cached version is used")
    assert models_hub.find(NAME) == old


# Without network.


def test_offline_a_cached_model_works_and_another_is_refused(published, cli_fast, monkeypatch):
    models_hub.find(NAME)
    published.asked.clear()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    for name in (NAME, f"{NAME}@main"):
        assert cli_fast("generate", "the", "--model", name, "--length", "2", "--seed", "1").returncode == 0
    line = refusal("org/another")
    assert "HF_HUB_OFFLINE is set, and " in line and line.endswith(
        "lacks some of its files: fetch it once with network"
    )
    assert not published.asked


def test_the_cache_is_shared_with_huggingface_hub(published, roberta, monkeypatch):
    from huggingface_hub import scan_cache_dir, try_to_load_from_cache

    folder = models_hub.find(NAME)
    hub_cache = Path(os.environ["HF_HOME"]) / "hub"
    for name in roberta:
        assert try_to_load_from_cache(NAME, name, cache_dir=hub_cache) == str(folder / name)
    scan = scan_cache_dir(hub_cache)
    assert not scan.warnings and [entry.repo_id for entry in scan.repos] == [NAME]
    for path in folder.iterdir():  # as on a system without symbolic links
        data = path.read_bytes()
        path.unlink()
        path.write_bytes(data)
    shutil.rmtree(folder.parents[1] / "blobs")
    published.asked.clear()
    assert load_model(NAME).name == "tiny-roberta" and not published.asked
    monkeypatch.setenv("HF_HUB_CACHE", str(hub_cache))
    monkeypatch.delenv("HF_HOME")
    assert models_hub.find(NAME) == folder and not published.asked


def test_a_partial_snapshot_of_another_program_is_completed(published, roberta):
    folder = models_hub.find(NAME)
    for name in roberta:
        if name.startswith("tokenizer"):
            (folder / name).resolve().unlink()
            (folder / name).unlink()
    published.fetched.clear()
    assert load_model(NAME).name == "tiny-roberta"
    assert files_asked(published) == {name for name in roberta if name.startswith("tokenizer")}


# Tokenizers.


def test_a_tokenizer_is_downloaded_without_its_model(hub, roberta):
    hub.publish("gpt2", roberta | NEVER | {"vocab.json": b"{}", "merges.txt": b"#", "vocab.bpe": b"#"})
    folder = models_hub.tokenizer_of("gpt2")
    names = {"tokenizer.json", "tokenizer_config.json", "vocab.json", "merges.txt"}
    assert {path.name for path in folder.iterdir()} == files_asked(hub) == names
    hub.asked.clear()
    hub.fetched.clear()
    assert models_hub.tokenizer_of("gpt2") == folder and not hub.asked
    assert models_hub.find("gpt2") == folder  # now with the other files
    assert files_asked(hub) == {"config.json", "model.safetensors", *(set(roberta) - names)}


def test_a_missing_tokenizer_is_one_line(hub):
    assert refusal("gpt2", models_hub.tokenizer_of) == (
        "no tokenizer of 'gpt2': the Hugging Face Hub has no such repository"
    )
    assert "this is not a name on the Hugging Face Hub" in refusal("./gpt2", models_hub.tokenizer_of)


def test_only_an_mdlm_is_complete_without_a_tokenizer(hub, roberta):
    for kind, again in (("mdlm", 0), ("roberta", 1)):
        config = json.loads(roberta["config.json"]) | {"model_type": kind}
        files = {"config.json": json.dumps(config).encode(), "model.safetensors": roberta["model.safetensors"]}
        hub.publish(f"org/{kind}", files)
        folder = models_hub.find(f"org/{kind}")
        hub.asked.clear()
        assert models_hub.find(f"org/{kind}") == folder
        assert len(hub.asked) == again


# Progress.


def test_a_terminal_shows_a_progress_bar_and_removes_it(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "xterm-256color")
    with download_progress("org/\x1b[31mtiny"):
        pass
    assert sys.stderr.getvalue() == ""
    with download_progress("org/\x1b[31mtiny") as progress:
        progress(0, 2_000_000)
        progress(1_000_000, 2_000_000)
    drawn = sys.stderr.getvalue()
    assert "fetching org/␛[31mtiny" in drawn and "1.0/2.0 MB" in drawn


@pytest.mark.parametrize(
    ("size", "says"),
    [(999, "999 bytes"), (1500, "1.5 kB"), (498_818_054, "499 MB"), (9_900_000, "9.9 MB"), (1_520_000_000, "1.5 GB")],
)
def test_a_pipe_gets_one_line_with_the_size(size, says, capsys):
    with download_progress("roberta-base") as progress:
        for done in (0, size // 2, size):
            progress(done, size)
    assert capsys.readouterr() == ("", f"fetching roberta-base ({says}) ...\n")


def test_the_model_process_of_watch_downloads_the_model_and_the_view_does_not(published, monkeypatch):
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
        assert [line for line in child.messages if line.startswith(f"fetching {NAME} (")] == child.messages
        child.send(Generate(id=1, prompt="the hare", length=4))
        assert until(child, TraceEnd).text.startswith("the hare")
    finally:
        child.close()


def until(child: Child, kind: type, seconds: float = 60.0):
    """The first answer of that class."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and child.alive:
        for answer in child.take():
            if isinstance(answer, kind):
                return answer
        time.sleep(0.01)
    raise AssertionError((child.reason, child.messages))
