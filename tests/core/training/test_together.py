"""Errors of processes that work together: raised in all of them, wherever in the work each of them is."""

import pytest

from tdiff.core.training.distributed import World
from tdiff.core.training.processes import raised_in_all
from tdiff.errors import TdiffError
from tests.support.forked import in_processes

PLACES = ("before", "first turn", "between", "second turn", "after")


def work_that_fails(world: World, place: str, rank: int) -> str:
    """Two turns in one block; the process of that rank fails in that place. Returns the error that this one has."""

    def may_fail(here: str) -> None:
        if (here, world.rank) == (place, rank):
            raise KeyError(place) if place == "between" else TdiffError(f"failed {place}")

    try:
        with world.together():
            may_fail("before")
            with world.in_turn():
                may_fail("first turn")
            may_fail("between")
            try:
                with world.in_turn():
                    may_fail("second turn")
            except TdiffError as error:
                raise TdiffError(f"translated: {error}") from None
            may_fail("after")
    except (TdiffError, OSError, KeyError) as error:
        return f"{type(error).__name__}: {error}".replace(" on ", ": ").split(": ", 1)[-1].rpartition(": ")[2]
    return "no error"


def test_a_process_that_fails_anywhere_has_its_error_raised_in_all(tmp_path):
    cases = [(place, rank) for place in PLACES for rank in (0, 1)]

    def work(world: World) -> list[str]:
        return [work_that_fails(world, *case) for case in (*cases, ("nowhere", 0))]

    results = in_processes(2, work, tmp_path, timeout=20)
    for case, *texts in zip(cases, *results, strict=False):
        expected = f"'{case[0]}'" if case[0] == "between" else f"failed {case[0]}"
        assert texts == [expected, expected], case
    assert [result[-1] for result in results] == ["no error"] * 2


def test_processes_that_wait_for_a_turn_do_not_enter_it_after_an_error(tmp_path):
    def work(world: World) -> bool:
        entered = False
        with pytest.raises(TdiffError), world.together(), world.in_turn():
            entered = True
            raise TdiffError("no such model")
        return entered

    assert in_processes(2, work, tmp_path, timeout=20) == [True, False]


def test_an_error_while_one_of_an_earlier_block_is_handled_is_raised_in_all(tmp_path):
    def work(world: World) -> tuple[str, bool]:
        try:
            with world.together():
                raise TdiffError(f"first of {world.rank}")
        except TdiffError:
            with pytest.raises(TdiffError) as raised, world.together():
                if world.rank == 1:
                    raise TdiffError("second") from None
        return str(raised.value).rpartition(": ")[2], raised_in_all(raised.value)

    assert in_processes(2, work, tmp_path, timeout=20) == [("second", True)] * 2
