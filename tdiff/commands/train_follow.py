"""Training in another process than the first: it has the same records, and neither prints nor writes them."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from tdiff.protocol.events import End, Event

_FAILED = 1


def follow(events: Iterable[Event]) -> End:
    """Train to the end. Returns the last event, or exits as the first process does if the loss is not finite."""
    for event in events:
        if isinstance(event, End):
            if event.reason == "nan":
                sys.exit(_FAILED)
            return event
    raise AssertionError("the last event of a run is End")
