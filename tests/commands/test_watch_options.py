"""The options of `tdiff watch` for its curves, and the one line that a wrong value gets."""

import pytest


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--smooth", "1"), "--smooth must be at least 0 and below 1; got 1"),
        (("--smooth", "nan"), "--smooth must be at least 0 and below 1; got nan"),
        (("--target", "inf"), "--target must be a finite number; got inf"),
        (("--align", "stat"), "unknown align 'stat'; did you mean start? known: start, step, time"),
    ],
)
def test_a_wrong_value_is_refused_in_one_line(arguments, says, cli_fast):
    assert says in cli_fast("watch", "train.log", *arguments).refused()
