"""A screen over the view that shows what comes while it is open."""

from __future__ import annotations

from abc import abstractmethod

from textual.screen import ModalScreen

from tdiff.tui.widgets.abstract import AbstractWidgetMeta


class RenewableScreen(ModalScreen[None], metaclass=AbstractWidgetMeta):
    """A screen whose content the view brings up to date."""

    @abstractmethod
    def renew(self) -> None:
        """Draw the content, if it has changed."""
