"""Text tables."""

from tdiff.draw.render import plain
from tdiff.draw.table import table


def test_columns_align_text_left_and_numbers_right():
    rows = [["class", "texts"], ["日本", "1,200"], ["a", "7"]]
    assert plain(table(rows)) == "class  texts\n日本   1,200\na          7"
    assert plain(table(rows, left=0)) == "class  texts\n 日本  1,200\n    a      7"


def test_trailing_blanks_are_removed_and_styles_apply_to_rows():
    assert table([["a", ""], ["bb", "c"]], 2, ["", "bold"]) == [[("a", "")], [("bb  c", "bold")]]
