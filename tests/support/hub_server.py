"""A small Hugging Face Hub on this machine that records its requests, and helpers that read the cache."""

import contextlib
import hashlib
import http.server
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from tdiff import hub as models_hub
from tdiff.errors import TdiffError

NAME = "org/tiny-roberta"
NEVER = {
    "pytorch_model.bin": b"a pickle",
    "model.pt": b"a pickle",
    "modeling_roberta.py": b"raise SystemExit",
    "tf_model.h5": b"h5",
    "flax_model.msgpack": b"msgpack",
    "onnx/model.onnx": b"onnx",
    "onnx/config.json": b"{}",
    "README.md": b"# tiny",
    "extra/model.safetensors": b"another",
}
"""Files that tdiff does not read."""


class Hub:
    """The repositories of the Hub, and the requests that it received."""

    def __init__(self) -> None:
        self.commits: dict[str, dict[str, dict[str, bytes]]] = {}
        self.refs: dict[str, dict[str, str]] = {}
        self.asked: list[str] = []
        """Paths of all requests, in order."""
        self.fetched: list[str] = []
        """Paths of the GET requests; that of a large file comes twice, since it is on another host."""
        self.seen: list[tuple[str, dict[str, str]]] = []
        """Host and headers of each."""
        self.instead: dict[str, object] = {}
        """Answers to GET in place of the Hub's, by the end of the path: called with the handler and the bytes."""
        self.refused: dict[str, tuple[int, str]] = {}
        """Status and error code for every request of a file, by the end of the path."""
        self.over = threading.Event()
        self.port = 0

    def publish(self, name: str, files: dict[str, bytes], *refs: str) -> str:
        """A new commit of a repository, at main and `refs`; its hash."""
        commit = hashlib.sha1(b"".join(key.encode() + data for key, data in sorted(files.items()))).hexdigest()
        self.commits.setdefault(name, {})[commit] = files
        self.refs.setdefault(name, {}).update(dict.fromkeys(("main", *refs), commit))
        return commit

    def answer(self, handler) -> None:
        parts = urlsplit(handler.path)
        path = unquote(parts.path).lstrip("/")
        is_head = handler.command == "HEAD"
        self.asked.append(path)
        if not is_head:
            self.fetched.append(path)
        self.seen.append((handler.headers["Host"], {k.lower(): v for k, v in handler.headers.items()}))
        between = "/revision/" if path.startswith("api/") else "/resolve/"
        name, _, rest = path.removeprefix("api/models/").partition(between)
        revision, _, file = rest.partition("/")
        if path.startswith("cdn/"):
            _, name, revision, file = (part.replace("--", "/") for part in path.split("/", 3))
        body = b""
        if name in self.commits:
            commit = self.refs[name].get(revision, revision)
            files = self.commits[name].get(commit, {})
            body = files.get(file, b"") if file else json.dumps(listing(commit, files)).encode()
        for ending, refusal in self.refused.items():
            if path.endswith(ending):
                return refuse(handler, *refusal)
        for ending, other in self.instead.items():
            if (
                not is_head
                and path.endswith(ending)
                and not (file.endswith(".safetensors") and not path.startswith("cdn/"))
            ):
                return other(handler, body)
        if name not in self.commits:
            return refuse(handler, 404, "RepoNotFound")
        if not files:
            return refuse(handler, 404, "RevisionNotFound")
        if file.endswith(".safetensors") and not path.startswith("cdn/"):
            where = f"http://localhost:{self.port}/cdn/{name.replace('/', '--')}/{revision}/{file}"
            digest = hashlib.sha256(body).hexdigest()
            linked = {"X_Linked_Size": str(len(body)), "X_Linked_ETag": f'"{digest}"', "X_Repo_Commit": commit}
            return send(handler, b"", 302, Location=where, **linked)
        if file and file not in files:
            return refuse(handler, 404, "EntryNotFound")
        if is_head:
            return send(handler, body, X_Repo_Commit=commit, ETag=f'"{git_hash(body)}"')
        return send_range(handler, body)


def git_hash(data: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()


def listing(commit: str, files: dict[str, bytes]) -> dict:
    siblings = []
    for name, data in files.items():
        entry = {"rfilename": name, "size": len(data), "blobId": git_hash(data)}
        if name.endswith((".safetensors", ".bin", ".pt")):
            entry["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
        siblings.append(entry)
    return {"id": "x", "sha": commit, "siblings": siblings}


def send(handler, body, status=200, promised=None, **headers):
    handler.send_response(status)
    # The Hub sends this to clients without a token; huggingface_hub prints it.
    handler.send_header("X-HF-Warning", "unauthenticated; you are sending unauthenticated requests")
    handler.send_header("Content-Length", str(len(body) if promised is None else promised))
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(body)
    handler.wfile.flush()


def send_range(handler, body):
    start = int((handler.headers["Range"] or "bytes=0-").removeprefix("bytes=").removesuffix("-"))
    send(handler, body[start:], 206 if start else 200)


def refuse(handler, status, code=""):
    send(handler, b'{"error": "no"}', status, **({"X_Error_Code": code} if code else {}))


def half(handler, body):
    """Send half of the promised bytes and close the connection."""
    send(handler, body[: len(body) // 2], promised=len(body))
    handler.close_connection = True


@contextlib.contextmanager
def serving() -> Iterator[Hub]:
    """A Hub that listens on this machine."""
    hub = Hub()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            with contextlib.suppress(ConnectionError):  # the client may have closed the connection
                hub.answer(self)

        do_HEAD = do_GET

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        httpd.daemon_threads = True
        hub.port = httpd.server_port
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield hub
        hub.over.set()
        httpd.shutdown()
        thread.join()


def refusal(name: str, find=models_hub.find) -> str:
    with pytest.raises(TdiffError) as caught:
        find(name)
    line = str(caught.value)
    assert line.isprintable() and len(line) < 400, line
    return line


def cache() -> list[str]:
    """The files with content in the cache."""
    root = Path(os.environ["HF_HOME"])
    return [str(path.relative_to(root)) for path in root.rglob("blobs/*") if path.is_file()]


def files_asked(hub: Hub) -> set[str]:
    return {path.rpartition("/")[2] for path in hub.fetched if not path.startswith("api/")}
