"""What the view remembers of its looks, beside what watch.toml says."""

from __future__ import annotations

import json

import pytest

from tdiff.watch.preferences import Preferences
from tdiff.watch.view_settings import ViewSettings, load, remember


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("TDIFF_STATE", str(tmp_path / "state"))
    return tmp_path / "state" / "view.json"


def test_each_view_stores_only_what_it_changes():
    own = Preferences()
    assert load(own) == ViewSettings()
    remember(own, preset="text", sizes={"stacked": {"generation": 14, "training": 6}})
    remember(own, theme="nord")
    expected = ViewSettings(preset="text", sizes={"stacked": {"generation": 14, "training": 6}}, theme="nord")
    assert load(own) == expected


def test_a_palette_in_the_file_comes_first_once_it_was_changed_there():
    light = Preferences(palette="light")
    remember(light, palette="traffic")
    assert load(light).palette == "traffic"
    assert load(Preferences(palette="dark")).palette == load(Preferences()).palette == ""
    assert load(Preferences(palette="light", theme="nord")).palette == "traffic"


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{", "null", '"x"', "[" * 9999,
        '{"preset": 7, "theme": ["nord"], "palette": {}, "sizes": [1]}',
        '{"sizes": {"stacked": {"a": 0, "b": -1, "c": 1.5, "d": true, "e": "2", "f": 10001, "g": null}, "x": 3}}',
    ],
)  # fmt: skip
def test_a_damaged_file_is_skipped(state, text):
    state.parent.mkdir()
    state.write_text(text)
    settings = load(Preferences())
    assert (settings.preset, settings.theme, settings.palette) == ("", "", "")
    assert not any(settings.sizes.values())
    remember(Preferences(), theme="nord")
    assert json.loads(state.read_text())["theme"] == load(Preferences()).theme == "nord"


def test_a_folder_that_cannot_be_written_is_skipped(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TDIFF_STATE", str(tmp_path / "file"))
    remember(Preferences(), theme="nord")
    assert load(Preferences()) == ViewSettings()
