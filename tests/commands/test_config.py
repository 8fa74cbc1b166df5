"""`tdiff config`: settings with their meaning, as TOML that can be trained with, and the check of a file."""

import json
import tomllib

from tdiff.config.settings import Settings


def test_a_run_prints_its_settings_as_toml_with_meanings(cli_fast, tiny_run):
    text = cli_fast("config", str(tiny_run.path)).stdout
    assert Settings.of([tomllib.loads(text)]) == tiny_run.settings()
    assert "# Transformer blocks.\nlayers = 1  # default: 4\n" in text
    assert text.count("\n# ") >= 50


def test_json_has_value_default_and_meaning(cli_fast, tiny_run):
    data = json.loads(cli_fast("config", str(tiny_run.path), "--json").stdout)
    assert data["model.layers"] == {"value": 1, "default": 4, "meaning": "Transformer blocks."}
    assert all(row["meaning"] for row in data.values())


def test_without_a_target_it_prints_the_defaults(cli_fast):
    assert Settings.of([tomllib.loads(cli_fast("config").stdout)]) == Settings()


def test_a_file_is_laid_over_its_preset(cli_fast, here):
    (here / "mine.toml").write_text('preset = "char-1m"\n[train]\nlr = 0.5\n')
    data = json.loads(cli_fast("config", "mine.toml", "--json").stdout)
    assert (data["train.lr"]["value"], data["train.minutes"]["value"]) == (0.5, 10.0)


def test_a_valid_file_is_checked_with_exit_code_0(cli_fast, here):
    (here / "mine.toml").write_text("[train]\nlr = 0.5\n")
    done = cli_fast("config", "check", "mine.toml")
    assert (done.returncode, done.stdout) == (0, "mine.toml is valid\n")


def test_invalid_config_file_is_one_line_and_exit_code_2(cli_fast, here):
    for text, says in {
        "[train]\nlearning = 1": "unknown setting 'train.learning'",
        "[train]\nlr = 'fast'": "setting 'train.lr' takes a number; got 'fast'",
        "[model]\nheads = 3": "model.heads 3",
        'preset = "char-2m"': "unknown preset 'char-2m'; did you mean char-1m?",
        "[train": "cannot be read",
    }.items():
        (here / "mine.toml").write_text(text)
        assert says in cli_fast("config", "check", "mine.toml").refused()
    assert "requires a FILE" in cli_fast("config", "check").refused()
    assert "no configuration 'shakespare'; did you mean shakespeare?" in cli_fast("config", "shakespare").refused()
