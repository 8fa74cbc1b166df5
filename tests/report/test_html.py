"""The frame of HTML reports."""

import pytest

from tdiff.errors import TdiffError
from tdiff.report import html

HOSTILE = "<script>alert(1)</script>\x1b[2J\u202e"


def test_page_escapes_its_title_and_keeps_its_body():
    page = html.page(HOSTILE, "<p>body</p>", "p { color: red; }\n")
    assert page.startswith("<!doctype html>") and page.endswith("<p>body</p></html>\n")
    assert "<script>" not in page and not set("\x1b\u202e") & set(page)
    assert "p { color: red; }\n</style>" in page


def test_table_escapes_cells_and_marks_rows():
    table = html.table([["name", "n"], [HOSTILE, "1"], ["b", "2"]], ["best", ""])
    assert "<th>name</th>" in table and '<tr class="best"><td>&lt;script&gt;' in table and "<tr><td>b</td>" in table
    assert "<script>" not in table and "\x1b" not in table


def test_save_reports_the_file_or_refuses_in_one_line(tmp_path, capsys):
    html.save(tmp_path / "a.html", "<p>é</p>")
    assert (tmp_path / "a.html").read_text("utf-8") == "<p>é</p>"
    assert capsys.readouterr().err == f"saved {tmp_path / 'a.html'}\n"
    (tmp_path / "file").write_text("")
    with pytest.raises(TdiffError, match="cannot be written"):
        html.save(tmp_path / "file" / "a.html", "")
