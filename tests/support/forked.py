"""Processes that train together, forked from this one, which has imported torch already."""

import multiprocessing
import os
import socket
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from tdiff.core.training import processes
from tdiff.core.training.distributed import World


def free_port() -> int:
    """A port of this machine on which nothing listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def environment_of(rank: int, size: int, port: int) -> dict[str, str]:
    """What torchrun sets for a process."""
    return {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "GLOO_SOCKET_IFNAME": "lo",
    }


def in_processes(
    size: int, work: Callable[[World], Any], folder: Path, timeout: float = 60, environment: Mapping[str, str] = {}
) -> list[Any]:
    """What `work` returns in each of `size` processes, in their order; an error in one of them is raised here."""
    port = free_port()

    def run(rank: int) -> None:
        os.environ |= environment_of(rank, size, port) | dict(environment)
        torch.set_num_threads(1)
        try:
            result = work(processes.join())
            processes.leave()
        except BaseException:
            result = traceback.format_exc()
        torch.save(result, folder / f"result-{rank}.pt")
        os._exit(0)

    fork = multiprocessing.get_context("fork")
    children = [fork.Process(target=run, args=(rank,), daemon=True) for rank in range(size)]
    for child in children:
        child.start()
    for child in children:
        child.join(timeout)
    results = []
    for rank, child in enumerate(children):
        assert not child.is_alive(), f"process {rank} did not end within {timeout} seconds"
        result = torch.load(folder / f"result-{rank}.pt", weights_only=False)
        assert not (isinstance(result, str) and result.startswith("Traceback")), result
        results.append(result)
    return results
