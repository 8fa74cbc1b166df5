"""Copies to and from another machine, through a local sh in place of ssh."""

import shutil

import pytest

from tdiff.errors import TdiffError
from tdiff.remote import copy, rsync
from tdiff.remote.data import Collector
from tdiff.remote.link import Link
from tdiff.watch.sources.address import Address
from tests.support.far import sh_as_ssh as sh_as_ssh

STRANGE = ["it's", 'a "b"', "$(touch x)", "two\nlines", "-rf", "ü"]


@pytest.fixture
def link(sh_as_ssh, tmp_path):
    with Link(Address("far", str(tmp_path / "the place's $HOME")), create=True) as made:
        yield made


@pytest.fixture
def source(tmp_path):
    folder = tmp_path / "texts"
    folder.mkdir()
    for n, name in enumerate(STRANGE):
        (folder / f"{name}.txt").write_text(f"text {n}\n" * 9)
    (folder / "large.txt").write_bytes(bytes(range(256)) * 40_000)
    return folder


def collected(path):
    collector = Collector()
    [there] = collector.rewritten({"data": {"sources": [str(path)]}})["data"]["sources"]
    [made] = collector.sets
    return there, made


def test_a_copy_continues_after_a_break_and_comes_back_the_same_whatever_the_names(link, source, tmp_path, monkeypatch):
    monkeypatch.setattr(rsync.shutil, "which", lambda _: None)
    there, files = collected(source)
    part = f"{files.folder}.part"
    large = (source / "large.txt").read_bytes()
    link.ask("write", large[:5_000_000], path=f"{part}/texts/large.txt", offset=0)
    seen = []
    assert copy.upload(link, files, lambda done, total: seen.append((done, total)))
    assert seen[-1] == (files.size, files.size)
    assert seen[0][0] >= 5_000_000
    assert not copy.upload(link, files)  # it is there
    names = dict(link.ask("files", path=there)["files"])
    assert set(names) == {*(f"{name}.txt" for name in STRANGE), "large.txt"}

    back = tmp_path / "back"
    assert copy.download(link, there, sorted(names.items()), back) == files.size
    for path in source.iterdir():
        assert (back / path.name).read_bytes() == path.read_bytes()
    (back / "large.txt").write_bytes(large[:700])  # as after a break
    (back / "-rf.txt").write_text("x" * names["-rf.txt"])  # of another version
    came = copy.download(link, there, sorted(names.items()), back)
    assert came == len(large) - 700 + names["-rf.txt"]
    assert (back / "large.txt").read_bytes() == large


def test_a_state_that_is_saved_again_while_it_comes_is_that_of_the_later_save(link, tmp_path):
    run = tmp_path / "the place's $HOME" / "run"

    def save(name: str) -> None:
        (run / "resume" / f"parts-{name}").mkdir(parents=True)
        (run / "resume" / f"parts-{name}" / "0.safetensors").write_text(f"rows of {name}")
        (run / "resume" / "state.safetensors").write_text(name)
        for other in (run / "resume").glob("parts-*"):
            if other.name != f"parts-{name}":
                shutil.rmtree(other)

    later = ["b"]

    def listed() -> list[tuple[str, int]]:
        files = sorted((name, size) for name, size in link.ask("files", path="run")["files"])
        if later:
            save(later.pop())  # before any of these files is read
        return files

    save("a")
    files, _ = copy.download_listed(link, "run", listed, tmp_path / "back")
    assert [name for name, _ in files] == ["resume/parts-b/0.safetensors", "resume/state.safetensors"]
    assert (tmp_path / "back/resume/state.safetensors").read_text() == "b"
    assert [path.name for path in sorted((tmp_path / "back/resume").iterdir())] == ["parts-b", "state.safetensors"]

    names = [*files, ("earlier/1/state.safetensors", 5)]  # another one has been removed
    assert copy.download(link, "run", names, tmp_path / "back") == 0
    assert not (tmp_path / "back/earlier/1/state.safetensors").exists()


def test_parts_that_appear_while_a_state_comes_are_brought_too_and_no_empty_folder_stays(link, tmp_path):
    run, back = tmp_path / "the place's $HOME" / "run", tmp_path / "back"
    for name in ("resume/state.safetensors", "earlier/00000005/state.safetensors", "earlier/00000005/more/x"):
        (run / name).parent.mkdir(parents=True, exist_ok=True)
        (run / name).write_text(name)
    lists = 0

    def listed() -> list[tuple[str, int]]:
        nonlocal lists
        found = [(str(path.relative_to(run)), path.stat().st_size) for path in sorted(run.rglob("*")) if path.is_file()]
        lists += 1
        if lists == 1:  # the first divided save completes, and the earlier one goes
            (run / "resume" / "parts-0a").mkdir()
            (run / "resume" / "parts-0a" / "0.safetensors").write_text("a part")
            (run / "resume" / "state.safetensors").write_text("an index")
        if lists == 2:
            shutil.rmtree(run / "earlier")
        return found

    copy.download_listed(link, "run", listed, back)
    assert (back / "resume" / "parts-0a" / "0.safetensors").read_text() == "a part"
    assert (back / "resume" / "state.safetensors").read_text() == "an index"
    assert not (back / "earlier").exists()


def test_a_file_that_arrives_damaged_is_copied_again_by_the_next_attempt(link, source, monkeypatch):
    monkeypatch.setattr(rsync.shutil, "which", lambda _: None)
    _, files = collected(source)
    large = (source / "large.txt").read_bytes()
    link.ask("write", b"x" + large[1:], path=f"{files.folder}.part/texts/large.txt", offset=0)
    with pytest.raises(TdiffError, match=r"large\.txt arrived damaged"):
        copy.upload(link, files)
    assert copy.upload(link, files)


@pytest.mark.skipif(not shutil.which("rsync"), reason="NO RSYNC HERE: copies with it are not tested")
def test_rsync_copies_where_both_machines_have_it(link, source, monkeypatch):
    monkeypatch.setattr(copy, "_requests", lambda *_: iter(()))
    there, files = collected(source)
    assert copy.upload(link, files)
    assert dict(link.ask("files", path=there)["files"])["large.txt"] == (source / "large.txt").stat().st_size


@pytest.mark.parametrize("path", ["../x", "/etc/x", "data/../../x", "out/x"])
def test_nothing_is_written_outside_the_folder(path, link, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "the place's $HOME/out").symlink_to(tmp_path / "elsewhere")
    for op in ("write", "put"):
        values = {"offset": 0} if op == "write" else {"mode": 0o644}
        with pytest.raises(TdiffError, match="the folder"):
            link.ask(op, b"x", path=path, **values)
    assert not list((tmp_path / "elsewhere").iterdir())
    with pytest.raises(TdiffError, match="outside the run"):
        copy.download(link, "data", [("../x", 1)], tmp_path)


def test_commands_are_words_that_no_shell_reads(link, sh_as_ssh, tmp_path):
    code, out, _ = link.run(["printf", "%s|", *STRANGE])
    assert (code, out) == (0, "|".join(STRANGE) + "|")
    assert "place" not in sh_as_ssh.read_text()  # the folder is no part of a command either
    assert link.run(["sh", "-c", "echo to stderr >&2; exit 3"]) == (3, "", ["to stderr"])
    with pytest.raises(TdiffError, match="cannot be started"):
        link.run(["no-such-program"])


def test_a_second_session_does_not_install_at_the_same_moment(link):
    link.ask("hold")
    with Link(link.address) as other, pytest.raises(TdiffError, match="another tdiff is preparing"):
        other.ask("hold")
