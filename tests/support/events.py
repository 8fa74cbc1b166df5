"""Records of a run with usual values, for tests."""

from tdiff.protocol.events import Resume, Start, Train


def start_of(**changes) -> Start:
    usual = {
        "time": 1.0,
        "run": "r",
        "version": "0",
        "settings": {},
        "corpus": "c",
        "tokens": 10,
        "vocabulary": 5,
        "parameters": 7,
        "device": "cpu",
        "threads": 1,
        "pid": 2,
        "host": "h",
    }
    return Start(**(usual | changes))


def train_at(step: int, time: float = 0.0) -> Train:
    return Train(
        time=time,
        step=step,
        tokens=step * 10,
        loss=2.0,
        loss_by_mask=[],
        lr=1e-3,
        grad_norm=1.0,
        tokens_per_second=5.0,
        progress=0.1,
        eta=1.0,
    )


def resume_at(step: int, time: float = 0.0) -> Resume:
    return Resume(time=time, step=step, pid=1, host="h")
