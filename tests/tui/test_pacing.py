"""When a frame may be drawn, on quick and on slow links: with a clock and an app of our own."""

from types import SimpleNamespace

import pytest

from tdiff.tui.pacing import MAX_RATE, MIN_RATE, Pacer


class Clock:
    """A clock that advances on request."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


class Queue:
    def __init__(self) -> None:
        self.size = 0

    def qsize(self) -> int:
        return self.size


def app_with(queue: Queue | None, **more):
    """An app whose driver has a writer with this queue, or one that writes by itself."""
    thread = SimpleNamespace() if queue is None else SimpleNamespace(_queue=queue)
    return SimpleNamespace(_driver=SimpleNamespace(_writer_thread=thread, write=lambda data: None), **more)


def drawn(pacer: Pacer, clock: Clock, seconds: float, each: float = 1 / 120) -> int:
    """Frames that are drawn by one who asks every `each` seconds."""
    count = 0
    end = clock.now + seconds
    while clock.now < end:
        count += pacer.ready()
        clock.now += each
    return count


@pytest.mark.parametrize("each", [1 / 500, 1 / 120, 1 / 31])
def test_frames_keep_to_the_rate(each):
    clock = Clock()
    assert 27 * 4 <= drawn(Pacer(app_with(Queue()), clock=clock), clock, 4.0, each) <= 30 * 4 + 1


def test_a_timer_of_the_same_rate_that_is_a_little_early_or_late_loses_no_frame():
    clock = Clock()
    pacer = Pacer(app_with(Queue()), clock=clock)
    for n in range(90):
        clock.now += 1 / MAX_RATE + (0.004 if n % 2 else -0.004)
        assert pacer.ready()


def test_a_frame_is_skipped_while_more_than_the_last_one_waits():
    clock, queue = Clock(), Queue()
    pacer = Pacer(app_with(queue), clock=clock)
    assert pacer.ready()
    queue.size = 2
    assert drawn(pacer, clock, 1.0) == 0
    queue.size = 1
    assert drawn(pacer, clock, 1.0) > 0


def test_a_synchronized_frame_is_three_pieces():
    clock, queue = Clock(), Queue()
    pacer = Pacer(app_with(queue, _sync_available=True), clock=clock)
    queue.size = 3
    assert drawn(pacer, clock, 1.0) > 20
    queue.size = 4
    assert drawn(pacer, clock, 1.0) == 0


def test_on_a_link_that_takes_five_frames_a_second_two_wait_at_most_and_five_are_drawn():
    clock, queue = Clock(), Queue()
    pacer = Pacer(app_with(queue), clock=clock)
    frames = most = 0
    sent = clock.now
    for _ in range(1200):
        clock.now += 1 / 120
        if pacer.ready():
            queue.size += 1
            frames += 1
        if queue.size and clock.now - sent >= 0.2:
            queue.size, sent = queue.size - 1, clock.now
        most = max(most, queue.size)
    assert most <= 2 and 40 <= frames <= 52 and pacer.rate < MAX_RATE


def test_the_rate_recovers_after_a_slow_phase():
    clock, queue = Clock(), Queue()
    pacer = Pacer(app_with(queue), clock=clock)
    for _ in range(40):
        queue.size = 9
        assert drawn(pacer, clock, 1.0) == 0
        queue.size = 0
        drawn(pacer, clock, 0.1)
    assert MIN_RATE <= pacer.rate < 5
    drawn(pacer, clock, 20.0)
    assert pacer.rate == MAX_RATE and drawn(pacer, clock, 1.0) >= 29


def test_without_a_queue_writes_are_timed_and_keys_get_as_much_time():
    clock = Clock()
    app = app_with(None)
    app._driver.write = lambda data: setattr(clock, "now", clock.now + 0.3)
    pacer = Pacer(app, clock=clock)
    started, frames = clock.now, 0
    while clock.now < started + 12:
        if pacer.ready():
            app._driver.write("a frame")
            frames += 1
        clock.now += 1 / 120
    assert 12 <= frames <= 21 and frames * 0.3 < 0.55 * 12


@pytest.mark.parametrize("queue", [None, SimpleNamespace(), SimpleNamespace(qsize=lambda: None)])
def test_a_driver_of_another_kind_is_no_error(queue):
    clock = Clock()
    for app in (SimpleNamespace(), SimpleNamespace(_driver=None), app_with(queue), app_with(queue)):
        assert drawn(Pacer(app, clock=clock), clock, 1.0) > 20


def test_a_driver_that_cannot_be_timed_is_no_error():
    class Fixed:
        __slots__ = ()

        def write(self, data: str) -> None: ...

    clock = Clock()
    assert drawn(Pacer(SimpleNamespace(_driver=Fixed()), clock=clock), clock, 1.0) > 20


def test_no_frame_is_ready_while_paused_and_one_is_right_afterwards():
    clock = Clock()
    pacer = Pacer(app_with(Queue()), clock=clock)
    drawn(pacer, clock, 1.0)
    pacer.paused = True
    assert drawn(pacer, clock, 60.0) == 0
    pacer.paused = False
    assert pacer.ready()
    assert drawn(pacer, clock, 1.0) <= 32  # nothing is made up for


def test_a_textual_app_has_the_queue_that_the_pacer_reads():
    from textual.drivers._writer_thread import WriterThread

    thread = WriterThread(SimpleNamespace(write=lambda data: None, flush=lambda: None))
    for _ in range(4):
        thread.write("a frame")
    clock = Clock()
    pacer = Pacer(SimpleNamespace(_driver=SimpleNamespace(_writer_thread=thread)), clock=clock)
    assert drawn(pacer, clock, 0.5) == 0


def test_frames_keep_to_their_share_of_a_core_while_a_model_computes():
    clock, computed = Clock(), Clock()
    pacer = Pacer(app_with(Queue()), clock=clock, computed=computed)
    pacer.share = 0.04

    def frames(cost: float, seconds: float = 10.0) -> int:
        count, end = 0, clock.now + seconds
        while clock.now < end:
            if pacer.ready():
                count += 1
                computed.now += cost
            clock.now += 1 / 120
        return count

    assert 88 <= frames(0.004) <= 101  # 0.004 s is 4% of 0.1 s
    assert frames(0.0001) >= 280  # what costs little is drawn as often as ever
    assert 19 <= frames(5.0) <= 22  # but never less often than on the slowest link
    pacer.share = 1.0
    assert frames(0.004) >= 280
