"""The meaning of each setting: the docstrings under the fields of a dataclass, read from its source."""

from __future__ import annotations

import ast
import inspect
import textwrap


def meanings(kind: type) -> dict[str, str]:
    """The docstring of each field of a dataclass that has one, on one line."""
    [definition] = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(definition, ast.ClassDef)
    texts = {}
    for statement, following in zip(definition.body, definition.body[1:], strict=False):
        match statement, following:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                texts[name] = " ".join(text.split())
    return texts
