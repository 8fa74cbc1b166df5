"""Atomic writes."""

import os

import pytest

from tdiff.files import write_atomic


def test_write_creates_the_folder_and_a_file_readable_by_all(tmp_path):
    path = tmp_path / "a" / "b" / "file"
    write_atomic(path, b"old")
    write_atomic(path, b"new")
    assert path.read_bytes() == b"new" and path.stat().st_mode & 0o777 == 0o644
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("call", ["fsync", "fdopen"])
def test_an_interrupted_write_leaves_only_the_old_file(tmp_path, monkeypatch, error, call):
    path = tmp_path / "file"
    write_atomic(path, b"old")

    def fail(*_, **__):
        raise error

    monkeypatch.setattr(os, call, fail)
    with pytest.raises(type(error)):
        write_atomic(path, b"new")
    with pytest.raises(type(error)):
        write_atomic(tmp_path / "first", b"new")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_bytes_are_synced_before_the_old_file_is_replaced(tmp_path, monkeypatch):
    path, synced = tmp_path / "file", []
    write_atomic(path, b"old")
    real = os.fsync

    def spy(handle):
        real(handle)
        synced.append((os.fstat(handle).st_size, path.read_bytes()))

    monkeypatch.setattr(os, "fsync", spy)
    write_atomic(path, b"newer")
    assert synced == [(5, b"old")]
