"""Masks that make room: unmasked tokens move little, and nothing else of the layout changes."""

import random

from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from rich.cells import cell_len

from tdiff.draw.canvas_layout import lay_out
from tdiff.draw.masks import WIDEST, adjust_mask_widths

FEW = examples(derandomize=True, deadline=None, max_examples=200, database=None)
WORDS = [
    " the",
    " of",
    ",",
    " a",
    " hurry",
    " forest",
    " grandmother",
    " basket",
    " deep",
    "s",
    " 日本",
    "\n",
    "a\tb",
    "",
]


def drawn(texts: list[str | None], masks: dict[int, int]) -> list[str]:
    return ["█" * masks[n] if text is None else text for n, text in enumerate(texts)]


def reveal(texts: list[str | None], masks: dict[int, int], width: int, place: int, text: str):
    """The layouts before and after a place is revealed."""
    before = lay_out(drawn(texts, masks), width)
    texts[place] = text
    del masks[place]
    adjust_mask_widths(before, ["" if t is None else t for t in texts], masks, {place})
    return before, lay_out(drawn(texts, masks), width)


def test_the_nearest_mask_absorbs_the_width_of_a_word():
    texts: list[str | None] = [" one", None, None, " two", None, " end"]
    masks = {1: 4, 2: 4, 4: 4}
    before, after = reveal(texts, masks, 40, 1, " sixth")
    assert masks == {2: 2, 4: 4} and after.column[3:] == before.column[3:]
    before, after = reveal(texts, masks, 40, 4, ".")
    assert masks == {2: 5} and after.column[5] == before.column[5] and after.column[3] == before.column[3] + 3


def test_the_next_mask_absorbs_the_rest():
    texts: list[str | None] = [None, None, None, " end"]
    masks = {0: 4, 1: 4, 2: 4}
    before, after = reveal(texts, masks, 40, 0, " something")
    assert masks == {1: 1, 2: 1} and after.column[3] == before.column[3]
    before, after = reveal(texts, masks, 40, 1, " more")
    assert masks == {2: 1} and after.column[3] == before.column[3] + 4  # nothing is left to give


def test_a_row_without_masks_overflows_into_the_next():
    texts: list[str | None] = [" abcd", None, " efgh", None, None, " ijkl", " end"]
    masks = {1: 1, 3: 4, 4: 4}
    before, after = reveal(texts, masks, 11, 1, " wxyz!")  # rows: abcd█efgh | ████████ | ...
    assert before.row[2] == 0 and after.row[2] == 1
    assert after.row[5:] == before.row[5:] and after.column[5:] == before.column[5:]


@given(st.data())
@FEW
def test_a_row_with_room_in_its_masks_keeps_its_positions(data):
    width = data.draw(st.integers(8, 60))
    texts = data.draw(st.lists(st.sampled_from([*WORDS, None, None]), min_size=1, max_size=60))
    masks = {n: data.draw(st.integers(1, WIDEST)) for n, text in enumerate(texts) if text is None}
    if not masks:
        return
    place = data.draw(st.sampled_from(sorted(masks)))
    text = data.draw(st.sampled_from([word for word in WORDS if word.isprintable() and cell_len(word) <= width]))
    own, old = masks[place], dict(masks)
    before, after = reveal(texts, masks, width, place, text)
    assert masks.keys() == old.keys() - {place}
    assert all(1 <= masks[n] <= max(old[n], 2 * WIDEST) for n in masks)
    row = before.row[place]
    others = [n for n in masks if before.row[n] == row]
    change = cell_len(text) - own
    room = sum(old[n] - 1 for n in others) if change > 0 else sum(2 * WIDEST - old[n] for n in others)
    whole = sum(cell_len(piece) for _, piece in before.rows[row]) <= width
    plain = all(t is None or t.isprintable() for n, t in enumerate(texts) if before.row[n] == row)
    if whole and plain and abs(change) <= room:
        assert after.row == before.row
        assert sum(abs(masks[n] - old[n]) for n in masks) == abs(change)
        assert {n: masks[n] for n in masks if n not in others} == {n: old[n] for n in masks if n not in others}


def cells(laid) -> list[str]:
    return ["".join(text for _, text in row).ljust(80) for row in laid.rows]


def test_few_positions_move_while_words_are_unmasked():
    draw = random.Random(5)
    words = [draw.choice([word for word in WORDS if word.isprintable() and word]) for _ in range(400)]
    moved = {True: 0, False: 0}
    for giving in moved:
        texts: list[str | None] = [None] * 400
        masks = dict.fromkeys(range(400), 4)
        for place in random.Random(6).sample(range(400), 400):
            before = lay_out(drawn(texts, masks), 80)
            texts[place] = words[place]
            del masks[place]
            if giving:
                adjust_mask_widths(before, ["" if t is None else t for t in texts], masks, {place})
            after = lay_out(drawn(texts, masks), 80)
            moved[giving] += sum(
                a != b for one in zip(cells(before), cells(after), strict=False) for a, b in zip(*one, strict=True)
            )
    assert moved[True] < moved[False] / 2
