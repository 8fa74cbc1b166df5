"""`tdiff serve`: a model behind pipes. It reads requests from stdin and writes answers and traces to stdout.

The process ends when stdin ends. torch is imported inside functions, since the import takes a second or two, and three
things must happen before it: a thread starts to watch for the end of stdin, stdout is closed to all libraries, and the
GPU is hidden if it must not be used.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import typing
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from tdiff import hub
from tdiff.config.decoding import DECODERS, DecodeSettings
from tdiff.config.decoding import decoding as parse_decoding
from tdiff.core.spare import cpu_only, lower_priority
from tdiff.errors import TdiffError, is_out_of_memory, unknown
from tdiff.protocol.messages import (
    Answer,
    Begin,
    Branch,
    Cancel,
    Cancelled,
    Classify,
    Generate,
    Lanes,
    Load,
    Measure,
    Ready,
    Refused,
    Request,
    Scores,
    parse_request,
    to_line,
)
from tdiff.protocol.trace import TraceEnd, TraceLine
from tdiff.runs import lookup
from tdiff.schema import MOST, convert

if TYPE_CHECKING:
    from tdiff.core.classification.classifier import Classifier
    from tdiff.core.lanes import Known
    from tdiff.core.models.base import LoadedModel

Say = Callable[[Answer | TraceLine], None]
_SPARE_SHARE = 0.005
"""Share of one core to use on a busy machine."""
_BUSY_RATIO = 1.25
"""The machine is busy if the elapsed time of a step is more than this multiple of its CPU time."""


def serve(model: str, device: str = "auto", *, share: bool = False) -> NoReturn:
    """Load a model and answer requests until stdin ends or stdout is closed; then the process exits with status 0.

    With `share` it computes on the CPU only, in one thread and at idle priority; while other processes compute, it
    takes half a percent of one core. Raises TdiffError if `share` is combined with another device.
    """
    if share:
        device = cpu_only(device)
    requests, answers = _pipes()
    inbox = Inbox()
    threading.Thread(target=_listen, args=(requests, inbox), name="requests", daemon=True).start()

    def say(answer: Answer | TraceLine) -> None:
        answers.write(to_line(answer).encode())
        answers.flush()

    try:
        server = Server(inbox, say, device, sparing=share)
        server.answer(Load(model=model))
        if share:
            lower_priority()  # after loading: an import at idle priority might take minutes
        server.run()
    except BrokenPipeError:
        _leave()


def _pipes() -> tuple[int, typing.BinaryIO]:
    """Reserve stdin and stdout for this module: other prints to stdout go to stderr, and other reads find no input."""
    requests, answers = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)
    os.dup2(2, 1)
    sys.stdout = sys.stderr
    return requests, os.fdopen(answers, "wb")


def _listen(stdin: int, inbox: Inbox) -> None:
    """Put requests into the inbox as they arrive. When stdin ends, end the process at once, also during computation."""
    partial = b""
    # Not a file object: the interpreter ends with a fatal error if a thread is reading one.
    with suppress(OSError):
        while chunk := os.read(stdin, 1 << 16):
            *lines, partial = (partial + chunk).split(b"\n")
            for line in lines:
                text = line.decode("utf-8", "replace")
                inbox.put(parse_request(text) or _unknown_request(text))
    _leave()


def _leave() -> NoReturn:
    os._exit(0)  # at once: other threads may be computing, or blocked in a write that no process will read


def _unknown_request(line: str) -> Refused:
    return Refused(text=f"not a request that this version knows: {line[:80]!r}")


class Inbox:
    """The queue of requests that are not yet processed, oldest first."""

    def __init__(self) -> None:
        self._waiting: deque[Request | Refused] = deque()
        self._news = threading.Condition()

    def put(self, request: Request | Refused) -> None:
        """Add a request, or the refusal of an invalid line."""
        with self._news:
            self._waiting.append(request)
            self._news.notify()

    def take(self) -> Request | Refused:
        """Remove and return the oldest request; blocks until there is one."""
        with self._news:
            self._news.wait_for(lambda: self._waiting)
            return self._waiting.popleft()

    def overtaken(self, generation: int, within: float = 0.0) -> bool:
        """Whether a waiting request, or one that arrives `within` so many seconds, ends the `generation` of that id.

        Its cancellation ends it, and so does another generation or classification.
        """

        def ends() -> bool:
            return any(
                isinstance(request, (Generate, Branch, Lanes, Classify))
                or (isinstance(request, Cancel) and request.id == generation)
                for request in self._waiting
            )

        with self._news:
            return self._news.wait_for(ends, within)


class Server:
    """Processes requests with the loaded model or classifier."""

    def __init__(self, inbox: Inbox, say: Say, device: str, *, sparing: bool = False) -> None:
        """With `sparing` it rests after steps in which other programs used the CPU."""
        self._inbox, self._say, self._device, self._sparing = inbox, say, device, sparing
        self._model: LoadedModel | None = None
        self._classifier: Classifier | None = None
        self._reference: Known | None = None  # what texts of this model are compared with

    def run(self) -> NoReturn:
        """Process requests, one after another, until the process ends."""
        while True:
            self.answer(self._inbox.take())

    def answer(self, request: Request | Refused) -> None:
        """Process a request, or answer `Refused` with the reason. A `Cancel` that comes too late has no effect."""
        if isinstance(request, Refused):
            self._say(request)
        elif isinstance(request, Load):
            with self._refusing(None):
                self._load(request.model)
        elif isinstance(request, (Generate, Branch)):
            with self._refusing(request.id):
                self._generate(request)
        elif isinstance(request, (Lanes, Measure)):
            with self._refusing(request.id):
                self._several(request)
        elif isinstance(request, Classify):
            with self._refusing(request.id):
                self._classify(request)

    @contextmanager
    def _refusing(self, generation: int | None) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            if not isinstance(error, TdiffError) and not is_out_of_memory(error):
                raise
            text = str(error).partition("\n")[0] or "out of memory"
            self._say(Refused(id=generation, text=text))

    def _load(self, name: str) -> None:
        weights = _write_time(name)  # before they are read: weights that are written during the load count as newer

        import torch

        from tdiff.core import devices
        from tdiff.core.models.load import load_model

        def announce(done: int, total: int) -> None:
            if not done:
                print(hub.announcement(name, total), file=sys.stderr, flush=True)

        if (folder := lookup.find_per_class(name)) is not None:
            self._load_each(folder)
            return
        model = self._model = load_model(name, devices.choose(self._device), announce)
        self._classifier = self._reference = None
        self._say(
            Ready(
                model=model.name,
                window=model.spec.context,
                device=model.device.type,
                threads=torch.get_num_threads(),
                vocabulary=model.spec.vocab_size,
                step=model.origin.steps,
                weights=weights,
                decoders=list(DECODERS),
                decoding=parse_decoding(model.origin.decoding),
                presets=model.presets,
            )
        )

    def _load_each(self, folder: Path) -> None:
        """Load a per-class run: one model per class, for classification only."""
        import torch

        from tdiff.core import devices
        from tdiff.core.classification.load import from_folder
        from tdiff.core.models.load import load_model

        device = devices.choose(self._device)
        self._model, self._classifier = None, from_folder(folder, lambda name: load_model(name, device), device)
        self._say(
            Ready(
                model=folder.name,
                window=self._classifier.window,
                device=device,
                threads=torch.get_num_threads(),
                vocabulary=len(self._classifier.tokenizer),
                step=0,
                weights=0.0,
                decoders=[],
            )
        )

    def _classify(self, request: Classify) -> None:
        from tdiff.core.classification.load import from_model
        from tdiff.core.classification.prediction import Effort

        if self._inbox.overtaken(request.id):
            self._say(Cancelled(id=request.id))
            return
        if self._classifier is None:
            if self._model is None:
                raise TdiffError("no model is loaded, so nothing can be classified; load one")
            self._classifier = from_model(self._model, self._model.device.type)
        classifier = self._classifier
        if not (0.5 <= request.confidence <= 1 and 1 <= request.draws <= MOST):
            raise TdiffError(
                f"confidence must lie between 0.5 and 1, and draws between 1 and {MOST:,}; got {request.confidence:g} "
                f"and {request.draws}"
            )
        ids = classifier.encode(request.text)
        if not classifier.can_score(ids):
            raise TdiffError("the text has no token that the model can score")
        pieces = classifier.pieces(ids)
        effort = Effort(confidence=request.confidence, draws=request.draws, seed=request.seed, explain=True)
        rest, start_time, start_cpu = 0.0, time.perf_counter(), time.thread_time()
        for update in classifier.predict([ids], effort, names=[0]):
            if self._sparing:
                rest = pause(time.perf_counter() - start_time, time.thread_time() - start_cpu)
            if self._inbox.overtaken(request.id, within=rest):
                self._say(Cancelled(id=request.id))
                return
            prediction = update.prediction
            contributions = prediction.contributions.tolist() if prediction.contributions is not None else []
            self._say(
                Scores(
                    id=request.id,
                    classes=list(classifier.classes),
                    posterior=[round(p, 6) for p in prediction.posterior],
                    interval=[round(p, 6) for p in prediction.interval],
                    draws=prediction.draws,
                    sure=prediction.sure,
                    final=update.final,
                    words=[(text, round(nats, 4)) for text, nats in zip(pieces, contributions, strict=False)],
                )
            )
            start_time, start_cpu = time.perf_counter(), time.thread_time()

    def _several(self, request: Lanes | Measure) -> None:
        if self._model is None:
            raise TdiffError("no model is loaded, so nothing can be generated or measured; load one")
        from tdiff.core import lanes

        if isinstance(request, Measure):
            self._reference = self._reference or lanes.known(self._model)
            work = lanes.measure(self._model, request, self._reference, self._say)
        else:
            work = lanes.answer(self._model, request, checked, self._say)
        start_time, start_cpu = time.perf_counter(), time.thread_time()
        for _ in work:
            used = time.perf_counter() - start_time, time.thread_time() - start_cpu
            if self._inbox.overtaken(request.id, within=pause(*used) if self._sparing else 0.0):
                self._say(Cancelled(id=request.id))
                return
            start_time, start_cpu = time.perf_counter(), time.thread_time()

    def _generate(self, request: Generate | Branch) -> None:
        if self._inbox.overtaken(request.id):
            self._say(Cancelled(id=request.id))
            return
        model = self._model
        if model is None:
            _settings(request)
            raise TdiffError("no model is loaded, so nothing can be generated; load one")
        lines = _lines(model, request)
        header = next(lines)  # raises TdiffError if the prompt does not fit
        self._say(Begin(id=request.id))
        self._say(header)
        rest = 0.0
        while True:
            if self._inbox.overtaken(request.id, within=rest):
                self._say(Cancelled(id=request.id))
                return
            start_time, start_cpu = time.perf_counter(), time.thread_time()
            line = next(lines)
            if self._sparing:
                rest = pause(time.perf_counter() - start_time, time.thread_time() - start_cpu)
            self._say(line)
            if isinstance(line, TraceEnd):
                return


def pause(elapsed: float, computed: float) -> float:
    """Seconds to rest after a step that took `elapsed` seconds, `computed` of them on the CPU.

    0 if the CPU was available throughout. Otherwise long enough to use only `_SPARE_SHARE` of a core: next to two busy
    threads on two cores, the lowest priority alone would still take 3% of one.
    """
    return max(0.0, computed / _SPARE_SHARE - elapsed) if elapsed > _BUSY_RATIO * computed else 0.0


def _write_time(model: str) -> float:
    """When the weights of a model were written, in seconds since the epoch; 0 if they are missing or on the hub."""
    try:
        return (lookup.find_model(model) / "model.safetensors").stat().st_mtime
    except (TdiffError, OSError):
        return 0.0


def _lines(model: LoadedModel, request: Generate | Branch) -> Iterator[TraceLine]:
    """The trace that answers a request. Raises TdiffError for invalid settings or an invalid canvas."""
    from tdiff.core.diffusion.generate import default_prompt, narrate

    settings = model.decode_settings(_settings(request), request.seed)
    if isinstance(request, Branch):
        from tdiff.core.diffusion.branch import branch_start

        text, at, room = request.text, request.at, request.room
        start, settings = branch_start(
            model, request.tokens, request.frozen, settings, text=text, at=at, room=room, steps=request.steps
        )
        return narrate(model, request.prompt, settings, row=request.row, start=start, detail=True, live=True)
    prompt = default_prompt(model, request.seed, request.row) if request.prompt is None else request.prompt
    return narrate(model, prompt, settings, length=request.length, row=request.row, detail=request.detail, live=True)


def _settings(request: Generate | Branch) -> dict[str, Any]:
    """The validated decoding settings of a request. Raises TdiffError for unknown or invalid ones."""
    for name in ("row", "steps" if isinstance(request, Branch) else "length"):
        if not 0 <= getattr(request, name) <= MOST:
            raise TdiffError(f"{name} must lie between 0 and {MOST:,}; got {getattr(request, name)}")
    return checked(request.settings)


def checked(settings: dict[str, Any]) -> dict[str, Any]:
    """These decoding settings, without a seed. Raises TdiffError for unknown or invalid ones."""
    hints = typing.get_type_hints(DecodeSettings)
    for name in settings:
        if name not in hints:
            raise unknown("setting", name, hints)
    values = {name: convert(hints[name], value, name) for name, value in settings.items()}
    values.pop("seed", None)
    DecodeSettings(**values)
    return values
