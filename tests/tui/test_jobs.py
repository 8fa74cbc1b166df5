"""A Slurm job in the view: what changes with the time alone, and alerts that come while their list is open."""

from dataclasses import replace

from tdiff.watch.jobs.job import Job
from tests.support.fed import FedState
from tests.support.stage import Stage, play

WAITING = Job(id="7", state="PENDING", reason="Resources")


def test_empty_curve_says_why_it_is_empty():
    run = FedState("job")
    run.job = WAITING

    async def scene(stage: Stage) -> None:
        assert "job 7 is pending (Resources)" in stage.text().partition("train/loss")[2]
        run.job = replace(WAITING, state="RUNNING", nodes="gpu01")
        run.absence = "out on login is not there yet"
        stage.app._update()
        await stage.pilot.pause()
        assert "job 7 runs on gpu01; out on login is not there yet" in stage.text().partition("train/loss")[2]

    play(scene, run, size=(80, 24), model=False)


def test_time_until_the_limit_is_right_without_a_new_record():
    run = FedState("job")
    run.feed([f"step {n}/900 loss {3 - n / 100}" for n in range(1, 9)])

    async def scene(stage: Stage) -> None:
        now = stage.app._clock()
        for seconds, text in ((300, "limit 5 min 00 s"), (299, "limit 4 min 59 s")):
            run.job = Job(id="7", state="RUNNING", nodes="gpu01", deadline=now + seconds)
            stage.app._update()
            await stage.pilot.pause()
            assert text in stage.text()

    play(scene, run, size=(80, 24), model=False)


def test_alert_that_comes_while_the_list_is_open_is_listed():
    run = FedState("job")
    run.feed([f"step {n}/900 loss {3 - n / 100}" for n in range(1, 9)])

    async def scene(stage: Stage) -> None:
        await stage.press("!")
        assert "nothing yet" in stage.text()
        run.add_alert("nan", "train/loss not finite")
        stage.app._update()
        await stage.pilot.pause()
        assert "train/loss not finite" in stage.text()
        assert "nothing yet" not in stage.text()
        await stage.press("q")
        await stage.press("?")
        stage.app._update()
        await stage.pilot.pause()
        assert "Everywhere" in stage.text()

    play(scene, run, size=(80, 24), model=False)
