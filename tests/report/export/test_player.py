"""The page of a player: what its script is given."""

import pytest

from tdiff.report.export import html
from tests.report.export.test_export import THEME, WORDS, data_of, recorded


@pytest.mark.parametrize(
    ("text", "mask"),
    [
        ("word", "████"),
        (" two words\n", " ███ █████\n"),
        ("\n", "█\n"),
        ("日本", "████"),
        ("⌚⚡", "████"),  # wide, and below U+2E80
        ("e\u0301a", "██"),
        ("", "█"),
    ],
)
def test_mask_in_a_player_has_the_cells_of_the_final_text(text, mask):
    assert html.mask_of(text) == mask


def test_player_has_the_mask_of_each_position():
    [player] = data_of(html.document([recorded()], THEME, 10, 3, ""))["recordings"]
    assert player["masks"] == [html.mask_of(text) for text in WORDS]
