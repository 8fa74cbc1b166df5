"""Looking up runs, models and configurations by name."""

import pytest

from tdiff.config.settings import Settings
from tdiff.errors import TdiffError
from tdiff.files import write_atomic
from tdiff.runs import lookup
from tdiff.runs import run as runs
from tdiff.runs.lookup import find_config, find_model, find_run
from tdiff.runs.retention import model_name
from tdiff.runs.run import create


@pytest.fixture
def no_models(tmp_path, monkeypatch):
    """An empty working folder, without the models and configurations of the package."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(lookup, "_SHELVES", (runs.ROOT,))
    monkeypatch.setattr(lookup, "_PACKAGE", tmp_path / "package" / "tdiff")
    return tmp_path


@pytest.mark.parametrize("find", [find_run, find_model, find_config])
@pytest.mark.parametrize("name", ["", "x", "a/b/c", "x" * 5000, "a\0b", "~nobody-of-that-name"])
def test_an_unknown_name_is_a_one_line_error(no_models, find, name):
    with pytest.raises(TdiffError, match=r"no (run|model|configuration)") as error:
        find(name)
    assert "\n" not in str(error.value)


def test_an_unknown_run_suggests_the_nearest_or_lists_all(no_models):
    for name in ("poems", "plays"):
        create(name, Settings())
    with pytest.raises(TdiffError, match=r"no run 'peoms' to resume under checkpoints/; did you mean poems\?"):
        find_run("peoms")
    with pytest.raises(TdiffError, match="there are: plays, poems"):
        find_run("zzz")
    assert find_run("poems").path == runs.ROOT / "poems"


def test_an_unknown_model_suggests_the_nearest_with_weights(no_models):
    for name in ("poems", "plays"):
        create(name, Settings())
    write_atomic(runs.ROOT / "plays" / "model" / "config.json", b"{}")
    with pytest.raises(TdiffError, match=r"did you mean plays\?"):
        find_model("pleys")
    with pytest.raises(TdiffError, match="run 'poems' has no weights yet"):
        find_model("poems")
    assert find_model("plays") == runs.ROOT / "plays" / "model"


def test_a_configuration_in_the_current_folder_wins_over_the_packaged_one(no_models):
    local, packaged = no_models / "configs" / "a.toml", no_models / "package" / "configs" / "a.toml"
    write_atomic(packaged, b"")
    assert find_config("a") == find_config("a.toml") == packaged
    write_atomic(local, b"")
    assert find_config("a").resolve() == local
    assert find_config(str(packaged)) == packaged
    with pytest.raises(TdiffError, match=r"no configuration 'shakespear'; there are: a"):
        find_config("shakespear")


def test_the_shipped_configuration_is_found_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_config("shakespeare").is_file()
    with pytest.raises(TdiffError, match=r"did you mean shakespeare\?"):
        find_config("shakespere")


@pytest.mark.parametrize(
    "folder, name",
    [
        ("tale/model", "tale"),
        ("tale/best", "tale:best"),
        ("tale/earlier/00001000/model", "tale:1000"),
        ("elsewhere/best", ""),
        ("elsewhere", ""),
    ],
)
def test_the_model_of_a_run_is_called_what_model_takes(no_models, folder, name):
    create("tale", Settings())
    assert model_name(runs.ROOT / folder) == name


def test_best_models_have_names_and_come_after_the_newest(no_models):
    create("tale", Settings())
    for folder in ("model", "best"):
        write_atomic(runs.ROOT / "tale" / folder / "config.json", b"{}")
    assert list(lookup.models()) == lookup.model_names() == ["tale", "tale:best"]
    assert [model_name(folder) for folder in lookup.models().values()] == ["tale", "tale:best"]
