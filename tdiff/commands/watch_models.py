"""The models that options of `tdiff watch` name."""

from __future__ import annotations

from pathlib import Path


def check_model(model: str) -> None:
    """Raises TdiffError for a model that neither exists nor may come."""
    from tdiff.runs.lookup import NoModel, find_model, find_per_class

    if Path(model).is_dir() or find_per_class(model):  # it may have its weights later
        return
    try:
        find_model(model)
    except NoModel as why:
        from tdiff import hub  # which brings no engine

        # The model's process asks the hub: it may take long.
        if not why.elsewhere and hub.cached(model) is None:
            raise
