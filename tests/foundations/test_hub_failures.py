"""Failures of the Hub and of the connection: each is one line, within the limit, and leaves no partial file in use."""

import errno
import json
import os
import shutil
import threading
import time

import pytest

from tdiff import hub as models_hub
from tdiff.core.models.load import load_model
from tdiff.errors import TdiffError
from tests.support.hub_server import NAME, NEVER, cache, files_asked, half, refusal, refuse, send, send_range


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(models_hub, "SILENCE", 0.4)


# Refusals.


@pytest.mark.parametrize(
    ("status", "code", "says"),
    [
        (404, "RepoNotFound", "the Hugging Face Hub has no such repository"),
        (404, "", "the Hugging Face Hub has no such repository"),
        (
            401,
            "RepoNotFound",
            "has no such repository, or it is private: set HF_TOKEN to a token that can read it (401)",
        ),
        (401, "", "the Hugging Face Hub does not let you read it: set HF_TOKEN to a token that can (401)"),
        (403, "", "the Hugging Face Hub does not let you read it: set HF_TOKEN to a token that can (403)"),
        (404, "RevisionNotFound", "the Hugging Face Hub has no revision 'main' of it"),
        (503, "", "the Hugging Face Hub answers with 503; try again later"),
        (429, "", "the Hugging Face Hub answers with 429; try again later"),
    ],
)
def test_a_refusal_of_the_hub_names_the_local_models_too(status, code, says, published, cli_fast):
    published.instead["/main"] = lambda handler, body: refuse(handler, status, code)
    line = cli_fast("generate", "--model", NAME).refused()
    assert line.startswith(f"no model {NAME!r}: neither a folder nor a run; ") and line.endswith(says)
    bare = cli_fast("eval", "qqqq").refused()
    assert bare.startswith("no model 'qqqq': neither a folder nor a name; there are: shakespeare; ")
    assert len(published.asked) == 2 and not cache()


def test_a_missing_revision_is_named(published):
    assert refusal(f"{NAME}@v9").endswith("; the Hugging Face Hub has no revision 'v9' of it")
    commit = "0" * 40
    assert refusal(f"{NAME}@{commit}").endswith(f"has no revision '{commit}' of it")


def test_a_gated_repository_lists_its_files_and_refuses_them(published):
    for ending in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        published.refused[ending] = (401, "GatedRepo")
    line = refusal(NAME)
    assert f"gates it: ask for access at {os.environ['HF_ENDPOINT']}/{NAME}, and set HF_TOKEN" in line
    published.refused.clear()
    assert load_model(NAME).name == "tiny-roberta"


def test_the_token_goes_to_the_hub_and_to_no_other_host(published, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    models_hub.find(NAME)
    tokens = {host.partition(":")[0]: headers.get("authorization") for host, headers in published.seen}
    assert tokens == {"127.0.0.1": "Bearer hf_secret", "localhost": None}


def test_pickled_weights_are_refused_before_any_download(hub, roberta):
    files = {name: data for name, data in roberta.items() if name != "model.safetensors"}
    hub.publish(NAME, files | NEVER)
    line = refusal(NAME)
    assert "has only pickled weights (model.pt); tdiff reads safetensors only, because loading a pickle can run" in line
    assert len(hub.asked) == 1 and not cache()


@pytest.mark.parametrize(
    ("lacks", "says"), [("model.safetensors", "has no model.safetensors"), ("config.json", "has no config.json")]
)
def test_a_repository_without_a_model_is_refused_before_any_download(lacks, says, hub, roberta):
    hub.publish(NAME, {name: data for name, data in roberta.items() if name != lacks})
    assert says in refusal(NAME)
    assert len(hub.asked) == 1 and not cache()


@pytest.mark.parametrize(
    ("named", "says"),
    [
        ("model-2.safetensors", "has no model-2.safetensors, which its model.safetensors.index.json names"),
        ("pytorch_model.bin", "names no safetensors in its model.safetensors.index.json"),
        ("../outside.safetensors", "names no safetensors in its model.safetensors.index.json"),
    ],
)
def test_an_index_names_no_other_files(named, says, hub, roberta):
    files = {name: data for name, data in roberta.items() if name != "model.safetensors"}
    index = json.dumps({"weight_map": {"lm_head.bias": named}}).encode()
    hub.publish(NAME, files | NEVER | {"model.safetensors.index.json": index})
    with pytest.raises(TdiffError, match=says):
        load_model(NAME)
    assert not {name for name in files_asked(hub) if name not in files and not name.endswith(".index.json")}


@pytest.mark.parametrize(
    "spoil",
    [
        lambda listing: [],
        lambda listing: listing | {"sha": "../.."},
        lambda listing: listing | {"siblings": None},
        lambda listing: listing | {"siblings": [listing["siblings"][0] | {"size": None}]},
    ],
)
def test_a_server_that_is_not_a_hub_is_named(spoil, published):
    published.instead["/main"] = lambda handler, body: send(handler, json.dumps(spoil(json.loads(body))).encode())
    assert "does not answer as the Hugging Face Hub does" in refusal(NAME)
    published.instead["/main"] = lambda handler, body: send(handler, b"<html>sign in to this network</html>")
    assert "does not answer as the Hugging Face Hub does" in refusal(NAME)
    assert not cache()


@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:9", "nonsense", "http://no-such-host.invalid"])
def test_an_unreachable_hub_is_named_with_what_works_offline(endpoint, published, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    line = refusal(NAME)
    assert "the Hugging Face Hub cannot be reached (" in line or "did not answer within" in line
    assert line.endswith("; folders and cached models work without network")


def test_the_wait_for_an_answer_is_limited(published, impatient):
    published.instead["/main"] = lambda handler, body: published.over.wait(10)
    start = time.monotonic()
    assert "the Hugging Face Hub did not answer within 0.4 seconds; folders" in refusal(NAME)
    assert time.monotonic() - start < 3


def test_the_wait_for_the_next_bytes_is_limited(published, impatient, monkeypatch):
    def stall(handler, body):
        half(handler, body)
        published.over.wait(10)

    published.instead["model.safetensors"] = stall
    start = time.monotonic()
    line = refusal(NAME)
    assert "; the Hugging Face Hub fell silent after " in line and line.endswith(" of its model.safetensors; try again")
    assert time.monotonic() - start < 3
    published.instead.clear()
    monkeypatch.setattr(models_hub, "SILENCE", 8.0)  # huggingface_hub holds its lock until it retries, after a second
    assert load_model(NAME).name == "tiny-roberta"


def trickle(handler, body):
    """Send a file in 0.8 seconds, twice the limit of `impatient`."""
    send(handler, b"", promised=len(body))
    for part in range(8):
        time.sleep(0.1)
        handler.wfile.write(body[len(body) * part // 8 : len(body) * (part + 1) // 8])
        handler.wfile.flush()


def test_a_slow_download_may_take_longer_than_the_limit(published, impatient):
    published.instead["model.safetensors"] = trickle
    start = time.monotonic()
    assert load_model(NAME).name == "tiny-roberta"
    assert time.monotonic() - start > 0.8


def test_a_second_process_waits_for_the_download_of_the_first(published, impatient, roberta):
    published.instead["model.safetensors"] = trickle
    is_started = threading.Event()
    first = threading.Thread(target=models_hub.find, args=(NAME, lambda done, total: is_started.set()))
    first.start()
    is_started.wait(5)
    folder = models_hub.find(NAME)
    first.join()
    assert (folder / "model.safetensors").read_bytes() == roberta["model.safetensors"]
    assert sum(path.endswith("model.safetensors") for path in published.fetched) == 1


# Broken connections.


@pytest.mark.parametrize("ranges", [True, False])
def test_a_connection_that_breaks_once_is_resumed(ranges, published, roberta):
    size = len(roberta["model.safetensors"])

    def once(handler, body):
        published.instead["model.safetensors"] = send_range if ranges else lambda handler, body: send(handler, body)
        half(handler, body)

    published.instead["model.safetensors"] = once
    calls = []
    folder = models_hub.find(NAME, lambda done, total: calls.append((done, total)))
    assert (folder / "model.safetensors").read_bytes() == roberta["model.safetensors"]
    total = sum(map(len, roberta.values()))
    assert calls[0] == (0, total) and calls[-1] == (total, total) and calls == sorted(calls)
    assert published.seen[-1][1]["range"] == f"bytes={size // 2}-"


def test_a_connection_that_breaks_each_time_is_one_line(published, roberta, cli_fast):
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
    published.instead.clear()
    published.fetched.clear()
    assert load_model(NAME).name == "tiny-roberta"
    assert files_asked(published) == {"model.safetensors"}


@pytest.mark.parametrize(
    ("tear", "says"),
    [
        (lambda body: body[:-5], "the Hugging Face Hub stopped after "),
        (lambda body: body + b"more", "the Hugging Face Hub sent more than the "),
        (lambda body: b"", "the Hugging Face Hub stopped after 0 bytes of the "),
    ],
)
@pytest.mark.parametrize("file", ["/model.safetensors", "/config.json"])
def test_a_file_of_another_size_is_not_used(tear, says, file, published):
    published.instead[file] = lambda handler, body: send(handler, tear(body))
    line = refusal(NAME)
    assert says in line and f"its {file[1:]}" in line and line.endswith("try again")
    published.instead.clear()
    assert load_model(NAME).name == "tiny-roberta"


def test_an_interrupted_download_is_not_used(published):
    def stop(done: int, total: int) -> None:
        if done > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        models_hub.find(NAME, stop)
    assert cache()
    assert load_model(NAME).name == "tiny-roberta"


def test_a_full_disk_is_one_line(published, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patched:
        patched.setattr(shutil, "move", full)
        line = refusal(NAME)
    assert line.endswith("hub cannot store it (No space left on device); HF_HOME names another folder")
    assert not cache()
    assert load_model(NAME).name == "tiny-roberta"


def test_a_cache_that_cannot_be_created_is_one_line(published, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "file"))
    assert "cannot store it (Not a directory)" in refusal(NAME)


def test_a_partial_file_of_another_program_is_replaced_by_an_update(published, roberta):
    weights = models_hub.find(NAME) / "model.safetensors"
    weights.resolve().write_bytes(roberta["model.safetensors"][:500])
    with pytest.raises(TdiffError, match="are damaged or not safetensors"):
        load_model(NAME)
    assert load_model(f"{NAME}@main").name == "tiny-roberta"
    weights.resolve().unlink()  # a broken link
    assert load_model(NAME).name == "tiny-roberta"
