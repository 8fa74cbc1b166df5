"""Characters of a prompt that the model's vocabulary lacks are named."""


def test_characters_without_a_token_are_named_in_one_line(cli_fast):
    done = cli_fast("generate", "1 < 2 => <b>", "--model", "tales", "--length", "3", "--seed", "1")
    lines = [line for line in done.stderr.splitlines() if "has no token" in line]
    assert done.returncode == 0 and len(lines) == 1, done.stderr
    assert "'<'" in lines[0] and "'='" in lines[0] and "'>'" in lines[0] and "'b'" not in lines[0]
    known = cli_fast("generate", "Once upon a time, he", "--model", "tales", "--length", "3", "--seed", "1")
    assert known.returncode == 0 and "has no token" not in known.stderr


def test_gaps_and_backslashes_of_a_template_are_no_characters_of_it(cli_fast):
    for template in ("Once upon _ time he", r"Once \_ a {2} time", "Once __ he"):
        done = cli_fast("generate", "--template", template, "--model", "tales", "--seed", "1")
        named = [line for line in done.stderr.splitlines() if "has no token" in line]
        assert done.returncode == 0
        assert [line.partition(";")[0] for line in named] == ["tales has no token for '_'"] * ("\\_" in template)
