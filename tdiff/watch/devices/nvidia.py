"""What `nvidia-smi` prints as CSV."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tdiff.watch.devices.reading import Gpu, GpuProcess, number, percent, positive, safe_name

MIB = float(1 << 20)
HOT = 0x20 | 0x40
"""Bits of the throttle reasons: slowed down by software or by hardware because of the temperature."""
_BEFORE, _AFTER = 2, 6
"""Fields before the name, which may contain anything, and after it; the throttle reasons, if asked for, come last."""


def gpus(lines: Sequence[str], processes: Mapping[str, tuple[GpuProcess, ...]]) -> tuple[Gpu, ...]:
    """The GPUs of a query: index, uuid, name, load, memory, temperature, power. `processes` by uuid.

    Lines of another form, such as warnings, are skipped.
    """
    found = []
    for line in lines:
        fields = [field.strip() for field in line.split(",")]
        reasons = fields.pop() if fields[-1].lower().startswith("0x") or _is_mark(fields[-1], len(fields)) else ""
        if len(fields) < _BEFORE + 1 + _AFTER or number(fields[0]) is None:
            continue
        load, memory, total, temperature, power, limit = fields[-_AFTER:]
        found.append(
            Gpu(
                index=str(positive(fields[0]) or 0),
                uuid=safe_name(fields[1]),
                name=safe_name(", ".join(fields[_BEFORE:-_AFTER])) or "GPU",
                load=percent(load),
                memory=positive(memory, MIB),
                total=positive(total, MIB),
                temperature=number(temperature),
                power=number(power),
                power_limit=number(limit),
                hot=bool(_bits(reasons) & HOT),
                processes=processes.get(safe_name(fields[1]), ()),
            )
        )
    return tuple(found)


def processes(lines: Sequence[str]) -> dict[str, tuple[GpuProcess, ...]]:
    """The processes of each GPU, by its uuid, from a query of gpu_uuid, pid, used_memory."""
    found: dict[str, list[GpuProcess]] = {}
    for line in lines:
        fields = [field.strip() for field in line.split(",")]
        if len(fields) == 3 and (pid := positive(fields[1])):
            found.setdefault(safe_name(fields[0]), []).append(GpuProcess(pid=pid, memory=positive(fields[2], MIB)))
    return {uuid: tuple(each) for uuid, each in found.items()}


def _is_mark(text: str, count: int) -> bool:
    """Whether a field is the throttle reasons of a GPU that does not report them."""
    return count > _BEFORE + 1 + _AFTER and number(text) is None


def _bits(text: str) -> int:
    try:
        return int(text, 16)
    except ValueError:
        return 0
