"""Every way in which a hub, or the way to it, can fail: one line each, soon, and nothing half is left."""

import errno
import json
import os
import time

import pytest

from tdiff import hub as hub_files
from tdiff.core.models.load import load_model
from tdiff.errors import TdiffError
from tests.support.hub_server import NAME, NEVER, cache, files_asked, half, refusal, refuse, send, send_range


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(hub_files, "SILENCE", 0.4)


# What cannot be had.


@pytest.mark.parametrize(
    ("status", "code", "says"),
    [
        (404, "RepoNotFound", "the Hugging Face hub has no such repository"),
        (404, "", "the Hugging Face hub has no such repository"),
        (
            401,
            "RepoNotFound",
            "has no such repository, or it is private: HF_TOKEN names a token that may read it (401)",
        ),
        (401, "", "the Hugging Face hub does not let you read it: HF_TOKEN names a token that may (401)"),
        (403, "", "the Hugging Face hub does not let you read it: HF_TOKEN names a token that may (403)"),
        (404, "RevisionNotFound", "the Hugging Face hub has no revision 'main' of it"),
        (503, "", "the Hugging Face hub answers with 503; try again later"),
        (429, "", "the Hugging Face hub answers with 429; try again later"),
    ],
)
def test_what_the_hub_refuses_is_told_beside_what_is_here(status, code, says, published, cli_fast):
    published.instead["/main"] = lambda handler, body: refuse(handler, status, code)
    line = cli_fast("generate", "--model", NAME).refused()
    assert line.startswith(f"no model {NAME!r}: neither a folder nor a run; ") and line.endswith(says)
    bare = cli_fast("eval", "qqqq").refused()
    assert bare.startswith("no model 'qqqq': neither a folder nor a name; there are: shakespeare; ")
    assert len(published.asked) == 2 and not cache()


def test_a_revision_that_is_missing_is_named(published):
    assert refusal(f"{NAME}@v9").endswith("; the Hugging Face hub has no revision 'v9' of it")
    commit = "0" * 40
    assert refusal(f"{NAME}@{commit}").endswith(f"has no revision '{commit}' of it")


def test_a_gated_repository_lists_its_files_and_keeps_them(published):
    for ending in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        published.instead[ending] = lambda handler, body: refuse(handler, 401, "GatedRepo")
    line = refusal(NAME)
    assert f"keeps it gated: ask for access at {os.environ['HF_ENDPOINT']}/{NAME}, and set HF_TOKEN" in line
    published.instead.clear()
    assert load_model(NAME).name == "tiny-roberta"


def test_a_token_goes_to_the_hub_and_to_no_other_host(published, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hub_files.find(NAME)
    tokens = {host.partition(":")[0]: headers.get("authorization") for host, headers in published.seen}
    assert tokens == {"127.0.0.1": "Bearer hf_secret", "localhost": None}


def test_pickled_weights_are_refused_before_anything_is_fetched(hub, roberta):
    files = {name: data for name, data in roberta.items() if name != "model.safetensors"}
    hub.publish(NAME, files | NEVER)
    line = refusal(NAME)
    assert "holds only pickled weights (model.pt); tdiff reads safetensors only, since loading a pickle can run" in line
    assert len(hub.asked) == 1 and not cache()


@pytest.mark.parametrize(
    ("lacks", "says"), [("model.safetensors", "holds no model.safetensors"), ("config.json", "holds no config.json")]
)
def test_a_repository_that_is_no_model_is_refused_before_anything_is_fetched(lacks, says, hub, roberta):
    hub.publish(NAME, {name: data for name, data in roberta.items() if name != lacks})
    assert says in refusal(NAME)
    assert len(hub.asked) == 1 and not cache()


@pytest.mark.parametrize(
    ("named", "says"),
    [
        ("model-2.safetensors", "lacks model-2.safetensors, which its model.safetensors.index.json names"),
        ("pytorch_model.bin", "names no safetensors in its model.safetensors.index.json"),
        ("../outside.safetensors", "names no safetensors in its model.safetensors.index.json"),
    ],
)
def test_an_index_leads_to_nothing_else(named, says, hub, roberta):
    files = {name: data for name, data in roberta.items() if name != "model.safetensors"}
    index = json.dumps({"weight_map": {"lm_head.bias": named}}).encode()
    hub.publish(NAME, files | NEVER | {"model.safetensors.index.json": index})
    with pytest.raises(TdiffError, match=says):
        load_model(NAME)
    assert not {name for name in files_asked(hub) if name not in files and not name.endswith(".index.json")}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda told: [],
        lambda told: told | {"sha": "../.."},
        lambda told: told | {"siblings": None},
        lambda told: told | {"siblings": [told["siblings"][0] | {"blobId": "../../x"}]},
        lambda told: told | {"siblings": [told["siblings"][0] | {"size": None}]},
    ],
)
def test_a_server_that_is_no_hub_is_told_as_such(spoil, published):
    published.instead["/main"] = lambda handler, body: send(handler, json.dumps(spoil(json.loads(body))).encode())
    assert "does not answer as the Hugging Face hub does" in refusal(NAME)
    published.instead["/main"] = lambda handler, body: send(handler, b"<html>sign in to this network</html>")
    assert "does not answer as the Hugging Face hub does" in refusal(NAME)
    assert not cache()


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:9", "nonsense", "http://no-such-host.invalid"])
def test_a_hub_that_is_not_there_is_told_with_what_works_without(endpoint, published, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    line = refusal(NAME)
    assert "the Hugging Face hub cannot be reached (" in line or "did not answer within" in line
    assert line.endswith("; folders, and models fetched before, work without network")


def test_a_hub_that_does_not_answer_is_waited_for_no_longer_than_that(published, impatient):
    published.instead["/main"] = lambda handler, body: published.over.wait(10)
    begun = time.monotonic()
    assert "the Hugging Face hub did not answer within 0.4 seconds; folders" in refusal(NAME)
    assert time.monotonic() - begun < 3


def test_a_hub_that_falls_silent_in_a_file_is_waited_for_no_longer_than_that(published, impatient):
    def stall(handler, body):
        half(handler, body)
        published.over.wait(10)

    published.instead["model.safetensors"] = stall
    begun = time.monotonic()
    line = refusal(NAME)
    assert "; the Hugging Face hub fell silent after " in line and line.endswith(" of its model.safetensors; try again")
    assert time.monotonic() - begun < 3
    published.instead.clear()
    assert load_model(NAME).name == "tiny-roberta"


def test_a_slow_hub_is_waited_for_as_long_as_something_comes(published, impatient):
    def trickle(handler, body):
        send(handler, b"", promised=len(body))
        for part in range(8):
            time.sleep(0.1)
            handler.wfile.write(body[len(body) * part // 8 : len(body) * (part + 1) // 8])
            handler.wfile.flush()

    published.instead["model.safetensors"] = trickle
    begun = time.monotonic()
    assert load_model(NAME).name == "tiny-roberta"
    assert time.monotonic() - begun > 0.8


# What breaks on the way.


@pytest.mark.parametrize("ranges", [True, False])
def test_a_connection_that_breaks_once_is_taken_up_where_it_broke(ranges, published, roberta):
    whole = len(roberta["model.safetensors"])

    def once(handler, body):
        published.instead["model.safetensors"] = send_range if ranges else lambda handler, body: send(handler, body)
        half(handler, body)

    published.instead["model.safetensors"] = once
    told = []
    folder = hub_files.find(NAME, lambda done, total: told.append((done, total)))
    assert (folder / "model.safetensors").read_bytes() == roberta["model.safetensors"]
    total = sum(map(len, roberta.values()))
    assert told[0] == (0, total) and told[-1] == (total, total) and told == sorted(told)
    assert published.seen[-1][1]["range"] == f"bytes={whole // 2}-"


def test_a_connection_that_breaks_each_time_is_told_and_nothing_half_is_left(published, roberta, cli_fast):
    published.instead["model.safetensors"] = lambda handler, body: (
        send(handler, b"", 206, promised=99) if handler.headers["Range"] else half(handler, body)
    )
    size = len(roberta["model.safetensors"])
    done = cli_fast("generate", "--model", NAME)
    assert done.returncode == 2 and done.stdout == ""
    announced, line = done.stderr.splitlines()
    assert announced.startswith(f"fetching {NAME} (")
    assert line.startswith(f"tdiff: no model {NAME!r}: neither a folder nor a run; the connection to the Hugging Face")
    assert line.endswith(
        f" after {size // 2 / 1e3:.0f} kB of the {size / 1e3:.0f} kB of its model.safetensors; try again"
    )
    assert published.asked.count(f"cdn/org--tiny-roberta/{published.refs[NAME]['main']}/model.safetensors") == 3
    assert not [path for path in cache() if path.endswith(".incomplete")]
    published.instead.clear()
    published.asked.clear()
    assert load_model(NAME).name == "tiny-roberta"
    assert files_asked(published) == {"model.safetensors"}


@pytest.mark.parametrize(
    ("tear", "says"),
    [
        (lambda body: body[:-1] + bytes([body[-1] ^ 1]), "came damaged from the Hugging Face hub: its hash is another"),
        (lambda body: body[:-5], "the Hugging Face hub stopped after "),
        (lambda body: body + b"more", "the Hugging Face hub sent more than the "),
        (lambda body: b"", "the Hugging Face hub stopped after 0 bytes of the "),
    ],
)
@pytest.mark.parametrize("file", ["/model.safetensors", "/config.json"])
def test_a_file_that_comes_torn_is_not_kept(tear, says, file, published):
    published.instead[file] = lambda handler, body: send(handler, tear(body))
    line = refusal(NAME)
    assert says in line and f"its {file[1:]}" in line and line.endswith("try again")
    assert not [path for path in cache() if path.endswith(".incomplete")]
    published.instead.clear()
    assert load_model(NAME).name == "tiny-roberta"


def test_an_interrupt_leaves_nothing_half(published):
    def stop(done: int, total: int) -> None:
        if done > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        hub_files.find(NAME, stop)
    assert cache() and not [path for path in cache() if path.endswith(".incomplete")]
    assert load_model(NAME).name == "tiny-roberta"


def test_a_disk_that_is_full_is_told_as_such(published, monkeypatch):
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", full)
        line = refusal(NAME)
    assert line.endswith("hub cannot keep it (No space left on device); HF_HOME names another place")
    assert not cache()
    assert load_model(NAME).name == "tiny-roberta"


def test_a_cache_that_cannot_be_made_is_told_as_such(published, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "file"))
    assert "cannot keep it (Not a directory)" in refusal(NAME)


def test_a_file_that_another_program_left_torn_is_mended_by_asking_for_the_newest(published, roberta):
    weights = hub_files.find(NAME) / "model.safetensors"
    weights.resolve().write_bytes(roberta["model.safetensors"][:500])
    with pytest.raises(TdiffError, match="are damaged or not safetensors"):
        load_model(NAME)
    assert load_model(f"{NAME}@main").name == "tiny-roberta"
    weights.resolve().unlink()  # a link that leads nowhere
    assert load_model(NAME).name == "tiny-roberta"
