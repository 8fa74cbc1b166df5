"""What is built and installed works where the source tree is not."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.support.paths import ROOT

NOT_COPIED = shutil.ignore_patterns(".git", ".venv*", ".gpu", "dist", "build", "__pycache__", ".*_cache", ".hypothesis")
PRIVATE = (
    "checkpoints/mine/config.toml",
    "checkpoints/mine/events.jsonl",
    "checkpoints/mine/model/config.json",
    "checkpoints/mine/model/model.safetensors",
    "checkpoints/shakespeare/resume/state.safetensors",
    "checkpoints/shakespeare/resume/corpus.txt",
)
"""What a user who trains here has beside the shipped model."""


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """A copy of the source tree that contains training runs."""
    copy = tmp_path_factory.mktemp("source") / "tdiff"
    shutil.copytree(ROOT, copy, ignore=NOT_COPIED)
    for name in PRIVATE:
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_text("private")
    return copy


def build(tree: Path, out: Path, *options: str) -> None:
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(out), *options, str(tree)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr + done.stdout


@pytest.fixture(scope="module")
def built(tree, tmp_path_factory):
    """An sdist, and the wheel that is made from it."""
    out = tmp_path_factory.mktemp("dist")
    build(tree, out)
    return next(out.glob("*.tar.gz")), next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def wheels(built, tree, tmp_path_factory):
    """The wheel made from the sdist, as for an index, and the one made from the tree itself, as by `pip install .`."""
    out = tmp_path_factory.mktemp("direct")
    build(tree, out, "--wheel")
    return built[1], next(out.glob("*.whl"))


def test_a_wheel_holds_the_shipped_model_and_the_configs_and_no_run_of_a_user(wheels):
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            names = archive.namelist()
            assert not [name for name in names if archive.read(name) == b"private"]
        for name in ("config.json", "model.safetensors", "tokenizer.json"):
            assert f"tdiff/_data/checkpoints/shakespeare/model/{name}" in names
        run = "tdiff/_data/checkpoints/shakespeare"
        assert {f"{run}/events.jsonl", f"{run}/samples/00014000.jsonl"} <= set(names)
        configs = {f"tdiff/_data/configs/{path.name}" for path in (ROOT / "configs").glob("*.toml")}
        assert configs <= set(names)
        models = {name.split("/")[3] for name in names if name.startswith("tdiff/_data/checkpoints/")}
        assert models == {"shakespeare", "tales"}
        assert not [name for name in names if "/resume/" in name or name.startswith("tests/")]
        pages = {f"tdiff/guide/{path.name}" for path in (ROOT / "tdiff" / "guide").glob("*.md")}
        assert pages <= set(names)


def test_the_sdist_holds_no_run_of_a_user(built):
    with tarfile.open(built[0]) as archive:
        names = [name.split("/", 1)[1] for name in archive.getnames() if "/" in name]
    assert {name.split("/")[1] for name in names if name.startswith("checkpoints/")} == {"shakespeare", "tales"}
    assert not set(PRIVATE) & set(names)
    assert "checkpoints/shakespeare/model/model.safetensors" in names
    assert "tests/support/oracles.py" in names


def test_the_installed_wheel_generates_elsewhere(built, tmp_path):
    site, elsewhere = tmp_path / "site", tmp_path / "elsewhere"
    elsewhere.mkdir()
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), str(built[1])]
    subprocess.run(install, check=True, capture_output=True)
    env = os.environ | {"PYTHONPATH": str(site), "OMP_NUM_THREADS": "1"}
    code = "import tdiff, sys; from tdiff.cli import main; print(tdiff.__file__, file=sys.stderr); main()"
    command = [sys.executable, "-c", code, "generate", "ROMEO:", "--length", "16", "--seed", "1"]
    done = subprocess.run(command, cwd=elsewhere, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert str(site) in done.stderr
    assert done.stdout.startswith("ROMEO:") and len(done.stdout.rstrip("\n")) >= 16
