"""The word list that `make check` runs over the sources; see `tests.support.language`."""

import pytest

from tests.support import language


@pytest.fixture
def lines(tmp_path, monkeypatch):
    """Return a function that checks a file with that text and returns what was found."""
    monkeypatch.setattr(language, "ROOT", tmp_path)

    def check(name: str, text: str) -> list[str]:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, "utf-8")
        return list(language.retired(path))

    return check


MODULE = '''"""Rows that were passed over."""

limit = 3  # but for the first


def report(told_by: int) -> str:
    return "this is told"
'''


def test_identifiers_comments_and_strings_of_the_program_are_checked(lines):
    assert sorted(lines("tdiff/rows.py", MODULE)) == [
        "tdiff/rows.py:1: 'passed over'",
        "tdiff/rows.py:3: 'but for'",
        "tdiff/rows.py:6: identifier 'told_by' contains 'told'",
        "tdiff/rows.py:7: 'is told'",
    ]


def test_strings_of_tests_are_fixtures_and_only_their_docstrings_are_checked(lines):
    assert [line.partition(": ")[0] for line in sorted(lines("tests/rows.py", MODULE))] == [
        "tests/rows.py:1",
        "tests/rows.py:3",
        "tests/rows.py:6",
    ]


def test_pages_are_checked_except_for_names_of_files(lines):
    assert lines("README.md", "It is told\nby `told`\nin told.safetensors\n") == ["README.md:1: 'is told'"]


def test_plain_code_passes(lines):
    assert lines("tdiff/rows.py", '"""Rows."""\n\nlimit = 3  # a comment\n') == []
