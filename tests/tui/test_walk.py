"""One walk through everything: a Slurm job on another host, from its queue to its end, in tmux over a real sshd.

The job, its GPUs and its scheduler are pretended; the connection, the terminal and the programs are real.
"""

import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.support import fake_tools
from tests.support.ptys import Pty, clean, soon, tmux
from tests.support.slurm import pretend_slurm
from tests.support.ssh import children, kill_all_under, server  # noqa: F401

pytestmark = pytest.mark.slow

QUICK = """\
from tdiff.watch.sources import ssh, ssh_process
ssh.SCRIPT = ssh.SCRIPT.replace("ask=40", "ask=2").replace("ask=400", "ask=2")
ssh_process._LONGEST_PAUSE = 1.0
from tdiff.cli import main
main()
"""
"""The command line, which asks the pretended scheduler every second instead of every 20."""


class Walk:
    """A job, and a user who watches it."""

    def __init__(self, folder: Path, address: str) -> None:
        self.folder, self.target = folder, f"{address}/slurm:7"
        self.output, self.cut = folder / "slurm-7.out", folder / "cut"
        self.slurm = pretend_slurm(folder)
        fake_tools.nvidia_smi(folder / "bin", apps=f"GPU-aaaa, {os.getpid()}, 42000")
        self.client: Pty | None = None
        self.tmux = None

    def command(self, *options: str) -> list[str]:
        (self.folder / "quick.py").write_text(QUICK)
        return [sys.executable, str(self.folder / "quick.py"), "watch", self.target, *options]

    def once(self, *options: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(self.command("--once", *options), env=clean(), capture_output=True, text=True, timeout=60)

    def data(self) -> dict:
        done = self.once("--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def shown(self) -> str:
        self.client.read()
        return self.tmux("capture-pane", "-p")

    def sees(self, *texts: str) -> None:
        """The user soon sees all these texts at once."""
        assert soon(lambda: all(text in self.shown() for text in texts), 30), f"{texts}\n{self.shown()}"

    def never(self, *texts: str) -> None:
        assert not any(text in self.shown() for text in texts), self.shown()

    def press(self, *keys: str) -> None:
        self.tmux("send-keys", *keys)

    def state(self, state: str, **more: str) -> None:
        self.slurm.show("7", state, self.output, node=os.uname().nodename, **more)


def records(first: int, last: int, pace: float = 5.0) -> list[str]:
    """Lines of a training whose newest record is of this moment."""
    now = time.time()
    lines = []
    for step in range(first, last + 1, 10):
        date = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now - (last - step) / 10 * pace))
        loss = 2 + 8 / (1 + step / 80)
        lines.append(f"{date},000 | INFO | trainer | step {step}/9000 loss {loss:.4f} lr 3.00e-04")
        if step % 100 == 0:
            lines.append(f"{date},500 | INFO | trainer | step {step} val_loss {loss + 0.1:.4f}")
    return lines


@pytest.mark.parametrize(("columns", "lines"), [(80, 24), (140, 40)])
def test_job_is_watched_from_the_queue_to_its_end(server, tmp_path, monkeypatch, columns, lines):  # noqa: F811
    ssh, address, sshd = server
    wrapper = tmp_path / "ssh"
    wrapper.write_text(
        f"#!/bin/bash\n[ ! -e '{tmp_path}/cut' ] || {{ echo 'Network is unreachable' >&2; exit 255; }}\n"
        f'words=("$@")\nwords[-1]="PATH=\'{tmp_path}/bin\':$PATH ${{words[-1]}}"\nexec {ssh} "${{words[@]}}"\n'
    )
    wrapper.chmod(0o755)
    for name, value in (("TDIFF_SSH", str(wrapper)), ("TDIFF_STATE", str(tmp_path / "state"))):
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    walk = Walk(tmp_path, address)

    walk.state("PENDING", reason="Resources", ran="00:00:00")
    done = walk.once()
    assert done.returncode == 0 and "job 7 is pending (Resources)" in done.stdout, done
    waiting = subprocess.Popen(
        walk.command("--wait"), env=clean(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    with tmux() as walk.tmux, waiting, walk.output.open("a", buffering=1) as log:
        try:
            watch = shlex.join(walk.command("--on-alert", f"cat >>'{tmp_path}/alerts'"))
            size = ("-x", str(columns), "-y", str(lines))
            walk.tmux("new-session", "-d", *size, "sh", "-c", f"{watch}; sleep 600")
            walk.tmux("set", "-g", "status", "off")
            walk.client = Pty(["tmux", "-S", walk.tmux.socket, "attach"], columns, lines)
            walk.sees("waiting", "job 7 is pending (Resources)")

            # It starts, and its limit is too short.
            log.write("".join(f"{line}\n" for line in records(10, 600)))
            walk.state("RUNNING", ran="00:50:00", limit="01:00:00")
            walk.sees("running", "step 600/9,000", "ETA 1 h ", " · limit ", "before the ETA of 1 h")
            walk.press("g")
            if columns == 140:  # it was shown there
                walk.press("g")
            walk.sees("2× RTX 4090", "nvidia-smi via ssh", f"● {os.getpid()}", "a process of the run")
            data = walk.data()
            assert (data["state"], data["points"], data["eval_points"]) == ("running", 60, 6)
            assert 4000 < data["eta_seconds"] < 4300
            assert data["gpus"][0]["processes"] == [{"pid": os.getpid(), "memory": 42000 << 20, "run": True}]
            assert (data["job"]["state"], data["job"]["limit_seconds"]) == ("RUNNING", 3600.0)

            # The connection is cut. What is written meanwhile comes later, and silence is no stall.
            walk.cut.touch()
            kill_all_under(sshd)
            walk.sees("running", "Network is unreachable")
            log.write("".join(f"{line}\n" for line in records(610, 650)))
            walk.never("step 650/9,000")
            walk.cut.unlink()
            walk.sees("running", "step 650/9,000")
            walk.never("stall", "restart", "no longer known")

            # The scheduler ends it.
            log.write(
                f"slurmstepd: error: *** JOB 7 ON gpu01 CANCELLED AT {time.strftime('%FT%T')} DUE TO TIME LIMIT ***\n"
            )
            walk.state("TIMEOUT", ran="01:00:00", limit="01:00:00", exit_code="0:15", reason="TimeLimit")
            walk.sees("failed", "DUE TO TIME LIMIT")
            walk.press("!")
            walk.sees("alerts", "JOB 7 ON gpu01 CANCELLED DUE TO TIME LIMIT", "before the ETA of 1 h")
            walk.press("q")
            out, err = waiting.communicate(timeout=60)
            end = "failed at step 650 of 9,000, loss 2.8767: JOB 7 ON gpu01 CANCELLED DUE TO TIME LIMIT\n"
            assert (waiting.returncode, out.endswith(end)) == (1, True), out
            assert "; trying again" in err and "connected again" in err
            data = walk.data()
            assert (data["state"], data["failed"], data["job"]["state"]) == ("failed", True, "TIMEOUT")
            assert data["reason"] == "JOB 7 ON gpu01 CANCELLED DUE TO TIME LIMIT"

            # It is submitted again, and continues from its checkpoint.
            walk.state("RUNNING", ran="00:00:30", limit="02:00:00")
            log.write("".join(f"{line}\n" for line in records(510, 560)))
            walk.sees("running", "step 560/9,000", "restarted at step 510, after step 650")
            with_attempt = walk.shown()
            walk.press("E")
            assert soon(lambda: "650" not in walk.shown().split("train/loss")[1].split("restarted")[0]), with_attempt
            done = walk.once()
            assert "1 earlier attempt, until step 650 at loss 2.877" in done.stdout, done
            assert "JOB 7 ON gpu01 CANCELLED DUE TO TIME LIMIT" in done.stdout

            # It reaches its end.
            log.write("".join(f"{line}\n" for line in records(8900, 9000)))
            walk.state("COMPLETED", ran="00:30:00", limit="02:00:00")
            walk.sees("finished", "step 9,000/9,000")
            data = walk.data()
            assert (data["state"], data["failed"], data["restarts"]) == ("finished", False, 1)

            alerts = (tmp_path / "alerts").read_text().splitlines()
            kinds = [line.partition("slurm:7: ")[2].partition(":")[0] for line in alerts]
            assert kinds == ["alert", "failed", "restart", "ended"], alerts
            assert b"\a" in walk.client.written, "the terminal was not rung"
            walk.press("q")
            walk.sees("tdiff watch --once")
            walk.client.send(b"\x02d")
        finally:
            waiting.kill()
    assert soon(lambda: not children(sshd)), "something remains on the other host"
