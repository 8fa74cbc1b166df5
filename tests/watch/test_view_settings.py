"""What the view remembers of its looks, beside what watch.toml says."""

from __future__ import annotations

import json

import pytest

from tdiff.watch.preferences import Preferences
from tdiff.watch.view_settings import QUIET, Unsaved, ViewSettings, load, remember


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


def test_changes_are_stored_together_after_a_quiet_moment_or_at_once_when_asked():
    stored = []
    unsaved = Unsaved(lambda **changes: stored.append(changes))
    for n in range(20):
        unsaved.change(n * QUIET / 2, sizes={"stacked": {"log": n}})
        unsaved.poll(n * QUIET / 2 + QUIET / 4)
    unsaved.change(100.0, theme="nord")
    unsaved.poll(100.0)
    assert stored == []
    unsaved.poll(100.0 + QUIET)
    unsaved.poll(200.0)
    assert stored == [{"sizes": {"stacked": {"log": 19}}, "theme": "nord"}]
    unsaved.change(300.0, theme="own")
    unsaved.save()
    unsaved.save()
    unsaved.change(300.0, palette="dark")
    unsaved.poll(10.0)
    assert stored[1:] == [{"theme": "own"}, {"palette": "dark"}], "a clock that was set back delays nothing"
