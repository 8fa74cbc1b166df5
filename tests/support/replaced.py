"""Replace a part of the program within a block, also in a process that was forked, where no fixture is at hand."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager


@contextmanager
def replaced(owner: object, name: str, value: object) -> Iterator[None]:
    """Within the block an attribute is another one, in this process."""
    original = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, original)


def failing(owner: object, name: str, error: Exception) -> AbstractContextManager[None]:
    """Within the block a function raises `error`."""

    def fail(*_: object, **__: object) -> None:
        raise error

    return replaced(owner, name, fail)
