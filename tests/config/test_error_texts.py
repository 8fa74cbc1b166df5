"""The exact text of every error of the settings, since users see it. Change the golden file only on purpose."""

from tdiff.config.settings import Settings, parse_assignment
from tdiff.errors import TdiffError
from tdiff.schema import lay_over
from tests.support.paths import ROOT

GOLDEN = ROOT / "tests" / "golden" / "settings-errors.txt"


def error_of(text: str) -> str:
    """The error of settings that hold only these assignments, separated by two spaces."""
    try:
        layer: dict = {}
        for part in text.split("  "):
            lay_over(layer, parse_assignment(part))
        Settings.of([layer])
    except TdiffError as error:
        return str(error)
    return "no error"


def test_every_error_has_its_exact_text():
    lines = GOLDEN.read_text("utf-8").splitlines()
    assert len(lines) > 60
    assert [f"{text} -> {error_of(text)}" for text in (line.partition(" -> ")[0] for line in lines)] == lines
