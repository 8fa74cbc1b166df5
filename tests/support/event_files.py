"""Writes TensorBoard event files, without its package."""

from pathlib import Path

from tdiff.protocol.event_file import first_record, scalars


def write_events(path: Path, rows: list[tuple[int, dict[str, float]]], time: float = 1.7e9, mode: str = "wb") -> None:
    """Write rows (step, tag -> value) into a file; the time of a row is `time` plus its step."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open(mode) as file:
        if mode == "wb":
            file.write(first_record(time))
        for step, values in rows:
            for tag, value in values.items():
                file.write(scalars(step, time + step, {tag: value}))
