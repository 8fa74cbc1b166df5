"""Mistakes on the command line: one line that names the mistake and the nearest right answer."""

import pytest


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["trian"], "unknown command 'trian'; did you mean train?"),
        (["generate", "--modle=x"], "unknown option '--modle'; did you mean --model? ("),
        (["generate", "--zzz"], "tdiff generate --help)"),
        (["generate", "--length=many"], "--length takes a whole number; got 'many'"),
        (["watch", "--every=often"], "--every takes a number; got 'often'"),
        (["generate", "--length"], "requires an argument"),
        (["eval"], "missing argument 'MODEL' ("),
        (["import", "gpt", "a", "b"], "unknown project 'gpt'; known: tiny-diffusion"),
    ],
)
def test_usage_errors_name_the_mistake_and_the_nearest_right_answer(cli_fast, arguments, says):
    assert says in cli_fast(*arguments).refused()
