"""Trackers: TensorBoard files in the run's folder, and the calls that the packages of other trackers get."""

import json
import math
import sys
import types

import pytest

from tdiff.config.settings import Settings
from tdiff.errors import TdiffError
from tdiff.protocol.events import Checkpoint, End, Eval, Resume, Sample, Start, Train, Verdicts
from tdiff.runs import run as runs
from tdiff.runs.trackers import base, select
from tdiff.runs.trackers.tensorboard import TensorBoard
from tdiff.watch.formats.tfevents import Decoder

START = Start(
    time=100.0,
    run="tale",
    version="1",
    settings={"train": {"lr": 1e-3}, "preset": "char-1m"},
    corpus="tale",
    tokens=10,
    vocabulary=5,
    parameters=7,
    device="cpu",
    threads=1,
    pid=1,
    host="here",
)


def train_at(step: int, loss: float | None = 2.0, **fields) -> Train:
    values = {"tokens": step, "lr": 1e-3, "grad_norm": 0.5, "tokens_per_second": 10.0, "progress": 0.1, "eta": 1.0}
    return Train(time=100.0 + step, step=step, loss=loss, loss_by_mask=[None, 3.0], **{**values, **fields})


def eval_at(step: int) -> Eval:
    return Eval(time=100.0 + step, step=step, nats_per_token=2.5, nats_per_char=1.2, interval_95=(2.4, 2.6), tokens=10)


def sample_at(step: int) -> Sample:
    return Sample(time=100.0 + step, step=step, prompt="Once", text="Once upon\na time", path="samples/1.jsonl")


def rows(folder) -> list[dict]:
    lines = []
    for path in sorted(folder.glob("events.out.tfevents.*")):
        decoder = Decoder()
        lines += decoder.feed(path.read_bytes()) + decoder.flush()
    return [json.loads(line) for line in lines]


def test_measurements_have_the_names_of_the_metrics():
    assert base.measurements(train_at(3, gpu_load=90.0)) == {
        "train/loss": 2.0,
        "train/lr": 1e-3,
        "train/grad_norm": 0.5,
        "train/tokens_per_second": 10.0,
        "gpu/load": 90.0,
        "train/loss at mask ratio 0.75": 3.0,
    }
    assert base.measurements(eval_at(3)) == {"eval/loss": 2.5, "eval/nats_per_char": 1.2}
    assert base.measurements(sample_at(3)) == {}
    assert math.isnan(base.measurements(train_at(3, loss=None))["train/loss"])


def test_event_file_has_the_numbers_of_each_step(tmp_path):
    tracker = TensorBoard(tmp_path)
    for event in (START, train_at(10), eval_at(10), sample_at(10), Checkpoint(time=1.0, step=10, path="model")):
        tracker.record(event)
    tracker.close()
    ten = {name: pytest.approx(value) for name, value in base.measurements(train_at(10)).items()}
    ten |= {name: pytest.approx(value) for name, value in base.measurements(eval_at(10)).items()}
    assert [row for row in rows(tmp_path) if row["step"] == 10] == [{"step": 10, "wall_time": 110.0, **ten}]


def test_a_resumed_run_gets_a_later_file_even_if_the_clock_was_set_back(tmp_path):
    first, second = TensorBoard(tmp_path), TensorBoard(tmp_path)
    first.record(train_at(1))
    first.close()
    second.record(Resume(time=50.0, step=1, pid=2, host="here"))
    second.record(train_at(2))
    second.close()
    names = sorted(path.name for path in tmp_path.iterdir())
    assert [name.split(".")[3] for name in names] == ["0000000101", "0000000102"]
    assert [row["step"] for row in rows(tmp_path)] == [1, 2]


def test_tensorboard_reads_the_files_and_forgets_the_steps_that_a_resume_undid(tmp_path):
    accumulators = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator",
        reason="TENSORBOARD IS MISSING: its files are not read",
    )
    first, second = TensorBoard(tmp_path), TensorBoard(tmp_path)
    for event in (START, train_at(10, 3.0), sample_at(10), train_at(20, 2.5), train_at(30, 2.2)):
        first.record(event)
    first.close()
    for event in (Resume(time=140.0, step=20, pid=2, host="here"), train_at(30, 2.1), train_at(40, 2.0)):
        second.record(event)
    second.close()
    read = accumulators.EventAccumulator(str(tmp_path)).Reload()
    assert [(s.step, pytest.approx(s.value)) for s in read.Scalars("train/loss")] == [
        (10, 3.0),
        (20, 2.5),
        (30, 2.1),
        (40, 2.0),
    ]
    (text,) = read.Tensors("sample")
    assert text.step == 10 and b"Once upon" in text.tensor_proto.string_val[0]
    assert read.SummaryMetadata("sample").plugin_data.plugin_name == "text"


def test_training_goes_on_without_a_tracker_that_fails():
    class Failing:
        name, closed, records = "unlucky", 0, 0

        def record(self, event):
            self.records += 1
            raise OSError("no space\nleft")

        def close(self):
            self.closed += 1

    failing, said = Failing(), []
    events = [train_at(1), train_at(2)]
    assert list(base.tracked(events, [failing], said.append)) == events
    assert (failing.records, failing.closed) == (1, 1)
    assert said == ["unlucky gets no more records: OSError: no space"]


@pytest.fixture
def run(tmp_path):
    settings = Settings.of([{"train": {"steps": 5}}])
    return runs.create("tale", settings, tmp_path)


def pretended(monkeypatch, name: str, **functions) -> list:
    """Put a package of this name in place, which keeps the calls that it gets."""
    calls, package = [], types.ModuleType(name)
    for function in ("init", "log", "define_metric", "finish", "log_params", "log_metrics", "log_text", "end_run"):
        setattr(package, function, lambda *a, _f=function, **k: calls.append((_f, a, k)))
    for function, result in functions.items():
        setattr(package, function, lambda *a, _f=function, _r=result, **k: (calls.append((_f, a, k)), _r)[1])
    monkeypatch.setitem(sys.modules, name, package)
    return calls


def settings_with(*trackers: str) -> Settings:
    return Settings.of([{"train": {"steps": 5, "tensorboard": False, "track": list(trackers)}}])


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_a_resumed_run_goes_on_in_the_run_of_the_tracker(name, run, monkeypatch):
    calls = pretended(monkeypatch, name)
    for _ in range(2):
        (tracker,) = select.open_trackers(run, settings_with(name))
        tracker.record(START)
        tracker.record(train_at(3))
        tracker.record(sample_at(3))
        tracker.close()
    assert [keywords for function, _, keywords in calls if function == "finish"] == (
        [{"exit_code": 1}] * 2 if name == "wandb" else [{}] * 2
    ), "no record says that it ended well"
    first, second = (keywords for function, _, keywords in calls if function == "init")
    assert first == second
    assert first["project"] == "tdiff" and first["config"]["train"]["steps"] == 5 and first["resume"] == "allow"
    logged = [(arguments[0], keywords) for function, arguments, keywords in calls if function == "log"]
    values = base.measurements(train_at(3))
    if name == "wandb":
        assert logged[:2] == [({**values, "step": 3}, {}), ({"sample": "Once upon\na time", "step": 3}, {})]
    else:
        assert logged[:2] == [(values, {"step": 3}), ({"sample": "Once upon\na time"}, {"step": 3})]


def test_mlflow_gets_settings_once_numbers_with_steps_and_how_the_run_ended(run, monkeypatch):
    active = types.SimpleNamespace(info=types.SimpleNamespace(run_id="abc"))
    calls = pretended(monkeypatch, "mlflow", start_run=active, set_experiment=None)
    for reason in ("stopped", "finished"):
        (tracker,) = select.open_trackers(run, settings_with("mlflow"))
        tracker.record(train_at(3, loss=None))
        tracker.record(End(time=1.0, step=5, reason=reason))
        tracker.close()
    assert [k["run_id"] for f, _, k in calls if f == "start_run"] == [None, "abc"]
    assert [a[0]["train.steps"] for f, a, _ in calls if f == "log_params"] == ["5"]
    (tracker,) = select.open_trackers(run, settings_with("mlflow"))
    tracker.record(train_at(4))
    tracker.close()  # a crash: there is no last record
    assert [a for f, a, _ in calls if f == "end_run"] == [("KILLED",), ("FINISHED",), ("FAILED",)]
    (metrics, *_), keywords = next((a, k) for f, a, k in calls if f == "log_metrics")
    assert "train/loss" not in metrics and metrics["train/lr"] == 1e-3 and keywords["step"] == 3


def test_verdicts_are_measured():
    verdicts = Verdicts(time=1.0, step=5, texts=9, accuracy=0.5, interval_95=(0.2, 0.8), ece=0.1, temperature=1.0)
    assert base.measurements(verdicts) == {"eval/accuracy": 0.5, "eval/calibration_error": 0.1}


def test_a_missing_package_is_refused_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(TdiffError, match="pipx inject tdiff-lm wandb"):
        select.check(settings_with("wandb"))


def test_an_unknown_tracker_is_refused_with_the_nearest_name():
    with pytest.raises(TdiffError, match="wandb"):
        settings_with("wandbb")


def test_a_tracker_that_cannot_begin_is_one_error(run, monkeypatch):
    pretended(monkeypatch, "wandb")

    def init(**_):
        raise RuntimeError("no key\nmore")

    monkeypatch.setattr(sys.modules["wandb"], "init", init)
    calls = pretended(monkeypatch, "trackio")
    with pytest.raises(TdiffError, match=r"^--track wandb could not begin: no key$"):
        select.open_trackers(run, settings_with("trackio", "wandb"))
    assert "finish" in [function for function, _, _ in calls], "the one that had begun is closed"
