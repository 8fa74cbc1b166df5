"""Regular expressions that are compiled on their first use.

A large expression takes milliseconds to compile, and most commands never use most expressions: those of module level
that few inputs reach are made here, so that importing their module stays cheap.
"""

from __future__ import annotations

import re
from typing import Any, AnyStr, Generic, cast


class _Pattern(Generic[AnyStr]):
    """Has the attributes of a compiled expression; the first that is asked for compiles it."""

    def __init__(self, pattern: AnyStr, flags: int) -> None:
        self._made_of: tuple[AnyStr, int] = (pattern, flags)

    def __getattr__(self, name: str) -> Any:
        # Stored on the instance, the attribute is found without this method from then on.
        value = self.__dict__[name] = getattr(re.compile(*self._made_of), name)
        return value


def lazy(pattern: AnyStr, flags: int = 0) -> re.Pattern[AnyStr]:
    """Like `re.compile`, but an invalid expression raises `re.error` on its first use."""
    return cast("re.Pattern[AnyStr]", _Pattern(pattern, flags))
