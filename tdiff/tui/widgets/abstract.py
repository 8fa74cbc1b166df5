"""Abstract methods for widgets."""

from __future__ import annotations

from abc import ABCMeta

from textual.message_pump import _MessagePumpMeta


class AbstractWidgetMeta(_MessagePumpMeta, ABCMeta):
    """The metaclass of a widget with abstract methods: textual's own is not that of `abc`, and a class has only one."""
