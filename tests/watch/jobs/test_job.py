"""What a job's state means."""

import time

import pytest

from tdiff.watch.jobs.job import UNKNOWN, Job, seconds
from tdiff.watch.jobs.notices import JobNotices

NOW = 1.8e9


def running(left: float | None = 2520.0, **changes) -> Job:
    values = {"state": "RUNNING", "nodes": "gpu01", "limit": 3600.0}
    return Job(id="7", **values | {"deadline": None if left is None else NOW + left} | changes)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("30", 1800), ("05:07", 307), ("01:00:00", 3600), ("2-03", 183_600), ("1-00:00:30", 86_430),
        ("2-01:30", 178_200), ("UNLIMITED", None), ("Partition_Limit", None), ("INVALID", None), ("", None),
        ("a-1:2", None), ("1:2:3:4", None),
    ],
)  # fmt: skip
def test_durations_are_read_as_slurm_writes_them(text, expected):
    assert seconds(text) == expected


def test_running_job_shows_its_node_and_the_time_until_its_limit():
    assert running().line(NOW) == "job 7 runs on gpu01, 42 min until its limit"
    assert running().limit_line(NOW + 60) == "limit 41 min"
    assert running(None).line(NOW) == "job 7 runs on gpu01"
    assert running(None).limit_line(NOW) == ""
    assert running().line(NOW + 4000) == "job 7 runs on gpu01, at its time limit"
    assert running(state="SUSPENDED").line(NOW) == "job 7 is suspended on gpu01, 42 min until its limit"


def test_waiting_job_shows_its_reason_and_its_expected_start():
    starts = NOW + 3600
    job = Job(id="7", state="PENDING", reason="Resources", starts=starts)
    clock = time.strftime("%H:%M", time.localtime(starts))
    assert job.line(NOW) == f"job 7 is pending (Resources), starts about {clock}"
    assert job.line(NOW + 7200) == "job 7 is pending (Resources)"
    assert job.waits and not job.runs and job.outcome == ""


@pytest.mark.parametrize(
    ("job", "failure"),
    [
        (Job(id="7", state="COMPLETED"), ""),
        (running(), ""),
        (Job(id="7", state=UNKNOWN), ""),
        (Job(id="7", state="TIMEOUT", limit=3600.0), "reached its time limit of 1 h 00 min"),
        (Job(id="7", state="FAILED", exit_code="2:0", reason="NonZeroExitCode"), "failed with exit code 2"),
        (Job(id="7", state="FAILED", exit_code="0:9"), "failed by signal 9"),
        (Job(id="7", state="CANCELLED", exit_code="0:15", reason="by 1000"), "was cancelled (by 1000)"),
        (Job(id="7", state="OUT_OF_MEMORY", exit_code="0:125"), "ran out of memory"),
        (Job(id="7", state="NODE_FAIL"), "failed with its node"),
        (Job(id="7", state="STRANGE"), "ended as STRANGE"),
    ],
)
def test_failure_says_how_the_job_ended(job, failure):
    assert job.failure == (f"Slurm job 7 {failure}" if failure else "")


@pytest.mark.parametrize(
    ("nodes", "there", "not_there"),
    [
        ("gpu01", ["gpu01", "gpu01.cluster.org", ""], ["gpu1", "login"]),
        ("gpu[01-03,7],c1-[10]-x", ["gpu01", "gpu03", "gpu7", "c1-10-x"], ["gpu04", "gpu[01-03", "gpu07"]),
        ("n1.site.org,n2", ["n1", "n2.site.org"], ["n3"]),
        ("", ["anything"], []),
        ("a[1-999999999999]", [], ["a1"]),
    ],
)
def test_node_of_a_job_is_recognized_by_its_name(nodes, there, not_there):
    job = Job(id="7", state="RUNNING", nodes=nodes)
    assert all(job.on(host) for host in there)
    assert not any(job.on(host) for host in not_there)


def test_limit_before_the_end_of_the_run_is_reported_once_for_a_deadline():
    notices, job = JobNotices(), running()
    assert notices.examine(job, 2000.0, False, NOW) == []
    assert notices.examine(job, None, False, NOW) == []
    [(what, text)] = notices.examine(job, 7200.0, False, NOW)
    assert what == "alert"
    assert text == "time limit in 42 min, before the ETA of 2 h 00 min"
    assert notices.examine(job, 7300.0, False, NOW + 30) == []
    longer = running(5000.0)
    assert len(notices.examine(longer, 7200.0, False, NOW)) == 1


def test_estimates_that_are_close_are_no_alert():
    assert running(2520.0).shortfall(2600.0, NOW) == ""
    assert running(None).shortfall(1e9, NOW) == ""


def test_completion_is_reported_unless_the_log_did():
    job = Job(id="7", state="COMPLETED")
    notices = JobNotices()
    assert notices.examine(job, None, False, NOW) == [("ended", "finished: Slurm job 7 is complete")]
    assert notices.examine(job, None, False, NOW) == []
    assert JobNotices().examine(job, None, True, NOW) == []
