"""The process that holds a model, as a live generation sees it."""

from __future__ import annotations

from typing import Protocol

from tdiff.protocol.messages import Answer, Request
from tdiff.protocol.trace import TraceLine


class ModelProcess(Protocol):
    """The process of a model; `process.Child` is one."""

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        ...

    @property
    def reason(self) -> str | None:
        """Why it ended; None while it runs."""
        ...

    def take(self) -> list[Answer | TraceLine]:
        """Its answers since the last call."""
        ...

    def send(self, request: Request) -> bool:
        """Send a request. Returns False if that is not possible."""
        ...

    def halt(self) -> None:
        """Stop it until `resume`."""
        ...

    def resume(self) -> None:
        """Continue it after `halt`."""
        ...

    def close(self) -> None:
        """End it."""
        ...


class FailedProcess:
    """Stands for a process that could not be started."""

    alive = False

    def __init__(self, reason: str) -> None:
        self.reason: str | None = reason

    def take(self) -> list[Answer | TraceLine]:
        """Return no answers."""
        return []

    def send(self, request: Request) -> bool:
        """Refuse the request."""
        return False

    def halt(self) -> None:
        """Do nothing."""

    def resume(self) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""
