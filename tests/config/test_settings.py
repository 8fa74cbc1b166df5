import copy
import tomllib

import pytest
import tomli_w
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from tdiff.config.decoding import DECODERS, SCHEDULES, DecodeSettings
from tdiff.config.presets import PRESETS
from tdiff.config.settings import Settings, parse_assignment, read_layer
from tdiff.errors import TdiffError
from tdiff.runs.lookup import find_config
from tdiff.schema import lay_over
from tests.support.paths import ROOT

CONFIGS = sorted((ROOT / "configs").glob("*.toml"))


def settings(*assignments: str) -> Settings:
    return Settings.of([parse_assignment(text) for text in assignments])


def error_of(layers: list) -> str:
    with pytest.raises(TdiffError) as error:
        Settings.of(layers)
    message = str(error.value)
    assert message and message.isprintable()
    return message


def test_the_shipped_configuration_is_among_those_checked():
    assert "shakespeare" in [path.stem for path in CONFIGS]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_configuration_loads_over_its_preset(path):
    layer = read_layer(path)
    loaded = Settings.of([PRESETS[layer["preset"]], layer])
    assert loaded.preset in PRESETS
    for table, values in layer.items():
        for name, value in values.items() if isinstance(values, dict) else ():
            assert getattr(getattr(loaded, table), name) == (tuple(value) if isinstance(value, list) else value)


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_every_preset_loads_and_has_one_budget(name):
    loaded = Settings.of([PRESETS[name]])
    assert sum(map(bool, (loaded.train.steps, loaded.train.minutes, loaded.train.epochs))) == 1
    assert loaded.model.window == PRESETS[name]["model"]["window"]


def test_merging_layers_does_not_change_the_presets():
    before = copy.deepcopy(PRESETS)
    Settings.of([PRESETS["char-1m"], {"model": {"width": 64}, "train": {"steps": 5}}])
    assert before == PRESETS


def test_no_layers_give_the_defaults():
    assert Settings.of([]) == Settings()


def test_later_layers_win_field_by_field():
    layers = [{"model": {"width": 64, "layers": 2}}, {"model": {"width": 96}}, {"train": {"lr": 0.5}}]
    loaded = Settings.of(layers)
    assert (loaded.model.width, loaded.model.layers, loaded.train.lr) == (96, 2, 0.5)
    assert Settings.of(layers[::-1]).model.width == 64


def test_a_later_list_replaces_an_earlier_one():
    assert Settings.of([{"data": {"sources": ["a", "b"]}}, {"data": {"sources": ["c"]}}]).data.sources == ("c",)


@pytest.mark.parametrize("before", ["steps", "minutes", "epochs"])
@pytest.mark.parametrize("after", ["steps", "minutes", "epochs"])
def test_a_later_budget_replaces_an_earlier_one_in_another_unit(before, after):
    train = Settings.of([{"train": {before: 7, "lr": 0.25}}, {"train": {after: 9}}]).train
    expected = {"steps": 0, "minutes": 0, "epochs": 0} | {after: 9}
    assert {name: getattr(train, name) for name in expected} == expected
    assert train.lr == 0.25


def test_a_later_layer_without_a_budget_keeps_the_earlier_one():
    train = Settings.of([PRESETS["char-1m"], {"train": {"lr": 0.25}}]).train
    assert train.minutes == PRESETS["char-1m"]["train"]["minutes"] and train.lr == 0.25


def test_two_budgets_in_one_layer_are_an_error_that_names_both():
    message = error_of([{"train": {"steps": 10, "minutes": 1.0}}])
    assert message.endswith("got train.minutes and train.steps")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("train.waramup=1", "unknown setting 'train.waramup'; did you mean train.warmup?"),
        ("train.batchsize=1", "unknown setting 'train.batchsize'; did you mean train.batch_size?"),
        (
            "objective.schedul='linear'",  # a short list stands beside it
            "unknown setting 'objective.schedul'; did you mean objective.schedule? known: objective.context, "
            "objective.context_mode, objective.contrast, objective.least_masked, objective.mask_rate_per, "
            "objective.most_masked, objective.schedule, objective.timesteps",
        ),
        ("modle.width=1", "unknown setting 'modle'; did you mean model?"),
        ("presett='x'", "unknown setting 'presett'; did you mean preset?"),
        ("train..lr=1", "unknown setting 'train.'; did you mean train.lr?"),
    ],
)
def test_an_unknown_setting_suggests_the_nearest(text, says):
    assert error_of([parse_assignment(text)]) == says


def test_an_unknown_setting_without_a_near_name_lists_all():
    message = error_of([{"xyzzy": 1}])
    assert message.startswith("unknown setting 'xyzzy'; known: data, ")
    assert all(f" {name}," in message for name in ("model.width", "train.lr", "objective.schedule"))


@pytest.mark.parametrize(
    ("text", "layer"),
    [
        ("train.lr=1e-3", {"train": {"lr": 1e-3}}),
        ("model.width = 64", {"model": {"width": 64}}),
        ("model.time_conditioning=true", {"model": {"time_conditioning": True}}),
        ("data.tokenizer=bpe:4096", {"data": {"tokenizer": "bpe:4096"}}),
        ("data.tokenizer='bpe:4096'", {"data": {"tokenizer": "bpe:4096"}}),
        ('data.sources=["a", "b"]', {"data": {"sources": ["a", "b"]}}),
        ("data.sources=a=b.txt", {"data": {"sources": "a=b.txt"}}),
        ("data.text_field=", {"data": {"text_field": ""}}),
        ("preset=char-1m", {"preset": "char-1m"}),
    ],
)
def test_an_assignment_is_a_nested_layer_read_as_toml_or_as_plain_text(text, layer):
    assert parse_assignment(text) == layer


@pytest.mark.parametrize("text", ["train.lr", "", "=3", " = 3"])
def test_an_assignment_without_a_name_or_a_value_is_error_of(text):
    with pytest.raises(TdiffError, match="takes NAME=VALUE") as error:
        parse_assignment(text)
    assert repr(text) in str(error.value)


@pytest.mark.parametrize(
    ("text", "takes"),
    [
        ("model.width=64.0", "a whole number"),
        ("model.width=true", "a whole number"),
        ("model.width=wide", "a whole number"),
        ("model.width=[1]", "a whole number"),
        ("train.lr=fast", "a number"),
        ("train.lr=true", "a number"),
        ("train.lr=nan", "a number"),
        ("train.minutes=inf", "a number"),
        ("model.time_conditioning=1", "true or false"),
        ("model.time_conditioning=yes", "true or false"),
        ("data.tokenizer=5", "text"),
        ("data.sources=5", "a list of strings"),
        ("data.sources=[1]", "a list of strings"),
    ],
)
def test_a_value_of_the_wrong_type_is_an_error_with_the_right_type(text, takes):
    message = error_of([parse_assignment(text)])
    assert message.startswith(f"setting {text.partition('=')[0]!r} takes {takes}; got ")


@pytest.mark.parametrize("layer", [{"train": 5}, {"train": "fast"}, {"train": [1]}, {"model": None}])
@pytest.mark.parametrize("later", [{}, {"train": {"steps": 4}}, {"model": {"width": 64}}])
def test_value_instead_of_a_table_is_an_error(layer, later):
    assert next(iter(layer)) in error_of([layer, later])


def test_table_instead_of_a_value_is_an_error():
    assert "model.width" in error_of([parse_assignment("model.width.more=3")])


def test_a_whole_number_is_accepted_as_a_number_and_a_string_as_a_list():
    loaded = settings("train.lr=1", "data.sources=poem.txt")
    assert loaded.train.lr == 1.0 and isinstance(loaded.train.lr, float)
    assert loaded.data.sources == ("poem.txt",)


@pytest.mark.parametrize(
    ("text", "nearest"),
    [
        ("train.optimizer=moun", "muon"),
        ("train.optimizer=5", "adamw, muon"),
        ("train.device=cud", "cuda"),
        ("train.compile=true", "auto, off, on"),
        ("objective.context_mode=Fixed", "fixed"),
        ("objective.schedule=cosin", "cosine"),
        ("data.unknown=err", "error"),
    ],
)
def test_a_value_outside_its_choices_suggests_the_nearest_or_lists_all(text, nearest):
    assert nearest in error_of([parse_assignment(text)])


@pytest.mark.parametrize(
    "text",
    [
        "model.layers=0",
        "model.heads=0",
        "model.heads=-1",
        "model.heads=3",
        "model.width=0",
        "model.width=4",
        "model.window=0",
        "model.conv=-1",
        "model.conv=4",
        "objective.context=-1",
        "objective.context=256",
        "objective.timesteps=-1",
        "train.batch_size=0",
        "train.accumulate=0",
        "train.eval_tokens=0",
        "train.steps=-1",
        "train.minutes=-0.5",
        "train.epochs=-1",
        "train.clip=-1",
        "train.weight_decay=-0.1",
        "train.eval_every=-1",
        "train.sample_every=-1",
        "train.log_every=-1",
        "train.save_every=-1",
        "train.warmup=1.5",
        "train.decay=-0.1",
        "train.final_lr=2",
        "train.ema=1.01",
        "train.beta2=-1",
        "train.lr=0",
        "train.lr=-1e-3",
        "train.muon_lr=0",
        "data.sources=[]",
    ],
)
def test_a_value_out_of_range_is_an_error_with_its_name(text):
    assert text.partition("=")[0] in error_of([parse_assignment(text)])


@pytest.mark.parametrize(
    "text",
    ["model.conv=5", "objective.context=255", "train.ema=1", "train.ema=0", "train.warmup=0", "train.clip=0"],
)
def test_a_value_at_the_edge_of_its_range_is_accepted(text):
    table, _, name = text.partition("=")[0].partition(".")
    assert getattr(getattr(settings(text), table), name) == float(text.partition("=")[2])


def test_merging_a_table_over_a_value_is_an_error():
    with pytest.raises(TdiffError, match="'train' is a single value, not a table"):
        lay_over({"train": 5}, {"train": {"lr": 1.0}})


ANY = st.fixed_dictionaries(
    {},
    optional={
        "preset": st.sampled_from(sorted(PRESETS)),
        "data": st.fixed_dictionaries(
            {},
            optional={
                "sources": st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=3),
                "text_field": st.text(st.characters(exclude_categories=["Cs"]), max_size=9),
                "unknown": st.sampled_from(["error", "token"]),
            },
        ),
        "model": st.fixed_dictionaries(
            {}, optional={"layers": st.integers(1, 99), "time_conditioning": st.booleans(), "conv": st.just(3)}
        ),
        "objective": st.fixed_dictionaries(
            {}, optional={"timesteps": st.integers(0, 10**7), "schedule": st.sampled_from(SCHEDULES)}
        ),
        "train": st.fixed_dictionaries(
            {},
            optional={
                "minutes": st.floats(0, 1e9),
                "lr": st.floats(1e-300, 1e300),
                "ema": st.floats(0, 1),
                "seed": st.integers(-(2**62), 2**62),
                "compile": st.sampled_from(["auto", "on", "off"]),
            },
        ),
    },
)


@given(layer=ANY)
@examples(derandomize=True, deadline=None, max_examples=100, database=None)
def test_settings_round_trip_through_toml(layer):
    loaded = Settings.of([layer])
    assert Settings.of([tomllib.loads(tomli_w.dumps(loaded.as_layer()))]) == loaded


def test_as_layer_contains_every_field():
    layer = Settings().as_layer()
    assert set(layer) == {"preset", "data", "model", "objective", "train"}
    assert layer["data"]["sources"] == ["shakespeare"] and layer["train"]["clip"] == 1.0


@pytest.mark.parametrize(
    ("content", "says"), [(b"a = ", "cannot be read"), (b"\xff", "cannot be read"), (b"a = 1\na = 2", "cannot be read")]
)
def test_a_file_that_is_not_toml_is_a_one_line_error_with_its_name(content, says, tmp_path):
    path = tmp_path / "mine.toml"
    path.write_bytes(content)
    with pytest.raises(TdiffError, match=says) as error:
        read_layer(path)
    assert "mine.toml" in str(error.value) and "\n" not in str(error.value)


def test_a_missing_file_and_a_folder_are_errors(tmp_path):
    with pytest.raises(TdiffError, match="does not exist"):
        read_layer(tmp_path / "none.toml")
    with pytest.raises(TdiffError, match="cannot be read"):
        read_layer(tmp_path)


@pytest.mark.parametrize("name", DECODERS)
def test_every_decoder_is_a_setting(name):
    assert DecodeSettings(decoder=name).decoder == name


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"decoder": "confidense"}, "did you mean confidence"),
        ({"decoder": "beam"}, "known: ancestral"),
        ({"schedule": "liner"}, "did you mean linear"),
        ({"threshold": 1.1}, "threshold must lie between 0 and 1; got 1.1"),
        ({"threshold": float("nan")}, "threshold"),
        ({"top_p": -0.1}, "top-p must lie between"),
        ({"top_k": -1}, "top-k must be at least 0; got -1"),
        ({"k": -1}, "k must be at least 0"),
        ({"steps": -5}, "steps must be at least 0"),
        ({"temperature": -0.5}, "temperature must be at least 0"),
        ({"temperature": float("nan")}, "temperature"),
    ],
)
def test_invalid_decoding_is_an_error_with_the_name_of_the_option(values, says):
    with pytest.raises(TdiffError) as error:
        DecodeSettings(**values)
    assert says in str(error.value)


@pytest.mark.parametrize(
    ("assignment", "says"),
    [
        ("train.lr=1" + "0" * 400, "setting 'train.lr' takes a number"),
        ("objective.most_masked=0.001", "objective.most_masked must lie between 0.01 and 1"),
        ("objective.least_masked=0.5", ""),
        ("objective.least_masked=1.0", "must be at least 0 and below 1"),
        ("objective.most_masked=1.5", "must lie between 0.01 and 1"),
        ("train.dropout=1.0", "train.dropout must be at least 0 and below 1"),
        ("model.hidden=300000", "model.hidden must be at most 262,144"),
        ("model.hidden=-1", "model.hidden must be at least 0"),
        ("data.held_out='fifth'", "unknown data.held_out 'fifth'"),
        ("train.precision='float16'", "unknown train.precision 'float16'"),
    ],
)
def test_limits_of_the_recipe_settings(assignment, says):
    if says:
        assert says in error_of([parse_assignment(assignment)])
    else:
        settings(assignment)


def test_the_study_has_a_configuration_but_its_rows_are_not_listed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_config("study/base").name == "base.toml"
    with pytest.raises(TdiffError) as error:
        find_config("nothing-like-it")
    assert "study/base" in str(error.value) and "rows" not in str(error.value)
