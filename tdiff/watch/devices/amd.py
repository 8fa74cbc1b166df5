"""What `amd-smi` and `rocm-smi` print as JSON. The keys differ between their versions."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from tdiff.watch.devices.reading import Gpu, GpuProcess, number, percent, positive, safe_name

_UNITS = {"B": 1, "KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30}


def document(text: str) -> Any:
    """The first JSON value in a text, which may have warnings around it; None if there is none."""
    decoder = json.JSONDecoder()
    for match in re.finditer(r"[\[{]", text):
        try:
            value, _ = decoder.raw_decode(text, match.start())
        except (ValueError, RecursionError):
            continue
        if value and isinstance(value, (list, dict)):
            return value
    return None


# amd-smi


def gpus(metric: Any, names: Mapping[str, str], processes: Mapping[str, tuple[GpuProcess, ...]]) -> tuple[Gpu, ...]:
    """The GPUs of `amd-smi metric`; `names` and `processes` by index."""
    found = []
    for number_of, entry in enumerate(_entries(metric)):
        index = _index(entry, number_of)
        usage, power, heat = (_part(entry, name) for name in ("usage", "power", "temperature"))
        memory = _part(entry, "mem_usage") or _part(entry, "vram")
        found.append(
            Gpu(
                index=index,
                name=names.get(index) or "AMD GPU",
                load=percent(_value(usage.get("gfx_activity", usage.get("gfx_usage")))),
                memory=_bytes(memory.get("used_vram"), "MB"),
                total=_bytes(memory.get("total_vram"), "MB"),
                temperature=_first(heat, "edge", "hotspot", "junction", "mem"),
                power=_first(power, "socket_power", "average_socket_power", "current_socket_power"),
                power_limit=number(_value(power.get("power_limit"))),
                hot="thermal" in str(power.get("throttle_status", "")).lower(),
                processes=processes.get(index, ()),
            )
        )
    return tuple(found)


def names(static: Any) -> dict[str, str]:
    """The product name of each GPU of `amd-smi static`, by index."""
    found = {}
    for number_of, entry in enumerate(_entries(static)):
        name = _part(entry, "asic").get("market_name")
        if isinstance(name, str) and name.strip() not in ("", "N/A"):
            found[_index(entry, number_of)] = safe_name(name)
    return found


def processes(listed: Any) -> dict[str, tuple[GpuProcess, ...]]:
    """The processes of each GPU of `amd-smi process`, by index."""
    found = {}
    for number_of, entry in enumerate(_entries(listed)):
        each = []
        rows = entry.get("process_list")
        for row in rows if isinstance(rows, list) else []:
            info = row.get("process_info", row) if isinstance(row, dict) else None
            if isinstance(info, dict) and (pid := positive(info.get("pid"))):
                usage = _part(info, "memory_usage")
                memory = _bytes(usage.get("vram_mem", info.get("mem_usage")), "B")
                each.append(GpuProcess(pid=pid, memory=memory))
        found[_index(entry, number_of)] = tuple(each)
    return found


def _entries(document: Any) -> Iterator[dict[str, Any]]:
    """The objects of the GPUs: a list of them, or a list under one key."""
    if isinstance(document, dict):
        document = document.get("gpu_data", [document] if "gpu" in document else list(document.values()))
    for entry in document if isinstance(document, list) else []:
        if isinstance(entry, dict):
            yield entry


def _index(entry: Mapping[str, Any], default: int) -> str:
    index = positive(entry.get("gpu"))
    return str(default if index is None else index)


def _part(entry: Mapping[str, Any], name: str) -> dict[str, Any]:
    part = entry.get(name)
    return part if isinstance(part, dict) else {}


def _value(field: Any) -> Any:
    """The value of a field, which may be an object with a value and a unit."""
    return field.get("value") if isinstance(field, dict) else field


def _first(part: Mapping[str, Any], *keys: str) -> float | None:
    """The first of these values that is known and not 0, which stands for a missing sensor."""
    return next((value for key in keys if (value := number(_value(part.get(key))))), None)


def _bytes(field: Any, unit: str) -> int | None:
    """A number of bytes; `unit` is used where the field has none."""
    if isinstance(field, dict):
        return positive(field.get("value"), _UNITS.get(str(field.get("unit")).upper(), _UNITS[unit]))
    return positive(field, _UNITS[unit])


# rocm-smi


def rocm_gpus(document: Any) -> tuple[Gpu, ...]:
    """The cards of `rocm-smi --json`. Its processes name no card, so they are shown only if there is one card."""
    cards = [
        (match[1], {key.lower(): value for key, value in entry.items()})
        for card, entry in (document.items() if isinstance(document, dict) else ())
        if (match := re.fullmatch(r"card(\d{1,3})", card)) and isinstance(entry, dict)
    ]
    listed = _rocm_processes(document.get("system") if isinstance(document, dict) else None)
    found = []
    for index, entry in sorted(cards, key=lambda card: int(card[0])):
        name = next((entry[key] for key in ("card series", "card model", "device name") if _named(entry.get(key))), "")
        found.append(
            Gpu(
                index=index,
                name=safe_name(str(name)) or "AMD GPU",
                load=percent(entry.get("gpu use (%)")),
                memory=positive(entry.get("vram total used memory (b)")),
                total=positive(entry.get("vram total memory (b)")),
                temperature=_sensor(entry, "temperature (sensor edge)", "temperature (sensor junction)", "temperature"),
                power=_sensor(
                    entry, "average graphics package power", "current socket graphics package power", "power"
                ),
                processes=listed if len(cards) == 1 else (),
            )
        )
    return tuple(found)


def _named(value: Any) -> bool:
    return isinstance(value, str) and value.strip().lower() not in ("", "n/a") and not value.startswith("0x")


def _sensor(entry: Mapping[str, Any], *prefixes: str) -> float | None:
    for prefix in prefixes:
        for key, value in entry.items():
            if prefix in key and (known := number(value)) is not None:
                return known
    return None


def _rocm_processes(system: Any) -> tuple[GpuProcess, ...]:
    """Entries such as "PID4242": "python, 1, 8589934592, 0, unknown"; the third part is its memory in bytes."""
    found = []
    for key, value in system.items() if isinstance(system, dict) else ():
        match = re.fullmatch(r"PID(\d{1,9})", key)
        parts = value.split(",") if isinstance(value, str) else []
        if match and len(parts) >= 3:
            found.append(GpuProcess(pid=int(match[1]), memory=positive(parts[-3] if len(parts) > 3 else parts[2])))
    return tuple(found)
