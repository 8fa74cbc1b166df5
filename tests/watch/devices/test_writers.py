"""Whether a process of this host writes a file, by the open files of all processes."""

import os
import subprocess
import sys

import pytest

from tdiff.watch.devices.writers import are_written

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="requires /proc")


def test_a_file_is_written_while_another_process_has_it_open_for_writing(tmp_path):
    log, link = tmp_path / "train.log", tmp_path / "latest.log"
    log.touch()
    link.symlink_to(log)
    with log.open("w"):
        assert are_written([log]) is False, "this process itself does not count"
    reader = subprocess.Popen(["sleep", "600"], stdin=log.open("rb"))
    writer = subprocess.Popen(["sleep", "600"], stdout=log.open("a"))
    try:
        assert are_written([tmp_path / "other.log", link]) is True
        writer.kill()
        writer.wait()
        assert are_written([log]) is False, "the other process only reads it"
    finally:
        for process in (reader, writer):
            process.kill()
            process.wait()


def test_without_a_list_of_processes_it_is_unknown(tmp_path):
    assert are_written([tmp_path / "train.log"], processes=tmp_path / "absent") is None
    hidden = tmp_path / "proc" / str(os.getpid() + 1)  # its open files cannot be listed, as those of another user
    hidden.mkdir(parents=True)
    assert are_written([tmp_path / "train.log"], processes=tmp_path / "proc") is False
