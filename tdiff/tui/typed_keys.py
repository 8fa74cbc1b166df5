"""An app in which keys take effect in the order in which they were typed, also where many arrive at once.

Textual forwards a key to the widget with the focus, and runs its command when the key has come back through the queues
of all widgets above it. A later key may meanwhile open a line of text, which would then get the focus first. Here each
key has its whole effect before the next one is looked at.
"""

from __future__ import annotations

import asyncio

from textual import events
from textual.app import App
from textual.widget import Widget
from textual.widgets import Input

_PATIENCE = 1.0
"""Seconds to wait for a line of text to take a key."""


class TypedKeysApp(App[None]):
    """An app without widgets that handle keys by themselves, other than lines of text."""

    def takes_key(self, key: str) -> bool:
        """Handle a key (textual's name) before the bindings; whether that was all."""
        return False

    async def on_event(self, event: events.Event) -> None:
        """Run the command of a key at once; wait for a line of text to take what is typed or pasted."""
        if isinstance(event, events.Key) and not event.is_forwarded and self.screen_stack:
            if not self.app_focus:
                self.app_focus = True
            line = self.focused
            writes = isinstance(line, Input) and event.is_printable
            if not self.takes_key(event.key) and (writes or not await self._run_binding(event.key)):
                await super().on_event(event)
        else:
            line = self.focused if isinstance(event, events.Paste) else None
            await super().on_event(event)
        if isinstance(line, Input):
            await _until_idle(line)

    async def _run_binding(self, key: str) -> bool:
        """Run the command that a key has for the widget with the focus; whether there is one."""
        active = self.screen.active_bindings.get(key)
        return active is not None and await self.run_action(active.binding.action, active.node)


async def _until_idle(line: Widget) -> None:
    """Wait until a widget has handled what is in its queue."""
    idle = asyncio.Event()
    if line.call_later(idle.set):
        try:
            await asyncio.wait_for(idle.wait(), _PATIENCE)
        except TimeoutError:  # a key late is better than a view that stands still
            return
