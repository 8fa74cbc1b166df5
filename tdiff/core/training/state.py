"""The state of a run in training: data, weights, their average, optimizers, and how it is saved and taken up again.

All randomness of a step is keyed by (seed, step), so that a resumed run draws what an unbroken one would have drawn and
nothing but the step need be stored.
"""

from __future__ import annotations

import copy
import hashlib
import math
import os
import platform
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor

from tdiff import __version__
from tdiff.config.decoding import DecodeSettings
from tdiff.config.settings import Settings, TrainSettings
from tdiff.core import devices
from tdiff.core.classification.classifier import Calibration, calibrate, of_one
from tdiff.core.diffusion import noise
from tdiff.core.diffusion.generate import narrate, opening, prompt_ids
from tdiff.core.diffusion.objective import Conditioning, Loss, autoregressive, bound, draw_masks, protect
from tdiff.core.diffusion.schedules import schedule
from tdiff.core.evaluation.likelihood import LEAST_DRAWS, score
from tdiff.core.mask_indices import send
from tdiff.core.models.base import UNKNOWN_TEXT, LoadedModel
from tdiff.core.models.files import put_weights, read_tensors
from tdiff.core.models.labels import naive_bayes
from tdiff.core.models.origin import Origin
from tdiff.core.training import initialize
from tdiff.core.training.optim import optimizers
from tdiff.core.training.packing import padded
from tdiff.corpus.corpus import Corpus, check_length
from tdiff.errors import TdiffError, unknown
from tdiff.protocol import events
from tdiff.runs.run import Run, write_whole
from tdiff.visible import visible_line

Progress = Callable[[int, int], None]
"""Called with how much is done, of how much."""
_MARGIN = 0.8
"""Of the time left, what an evaluation whose speed was measured on a small part plans for."""
_OPENINGS = 64
_BOTH_WAYS = 6
"""Seeds among whose first random numbers some are below a half and some above."""
_REASON = 300
"""Characters of a reason, at most."""
# A sample tells how far the model has come: places in no order of its own choosing, as the bound takes them, in a
# quarter of the calls that one place a call would take. A little sharpened, to be read.
_SAMPLE = DecodeSettings(decoder="ancestral", steps=64, temperature=0.7)

_FROM_THE_LEFT = DecodeSettings(decoder="autoregressive", temperature=0.7)


class _Stopped(Exception):
    """Raised through an evaluation that is to end."""


class TrainState:
    """A run in training, between one step and the next."""

    def __init__(self, settings: Settings, run: Run, corpus: Corpus) -> None:
        self.settings, self.run, self.corpus = settings, run, corpus
        self.device = devices.choose(settings.train.device)
        devices.keep_memory(self.device)
        self.bfloat16 = devices.in_bfloat16(settings.train.precision, self.device)
        self.step, self.seconds, self.temperature = 0, 0.0, 0.0
        training, held_out = corpus.split(settings.data.held_out, settings.data.rows)
        self.network, self.tokenizer = initialize.begin(settings, run, corpus, training)
        window = settings.model.window
        self.real: Tensor | None = None
        self._real_tokens = 0
        self.labels: Tensor | None = None  # of each row, by the number of its class
        self.held_out_labels: list[int] | None = None
        self.held_out: Tensor | list[Tensor]
        if settings.data.rows == "padded":
            before, after = self._texts()
            training = "\n\n".join(corpus.texts[n] for n in before) if settings.data.only else training
            rows, real, text = padded(self._encoded(before), window, self.tokenizer.mask_id)
            self.tokens, self.real, self.held_out = rows, real, self._encoded(after)
            self._real_tokens = int(real.sum())
            if settings.data.classes:
                kinds = torch.tensor([corpus.classes.index(label) for label in corpus.labels])
                if few := [name for n, name in enumerate(corpus.classes) if not bool((kinds[before] == n).any())]:
                    raise TdiffError(f"class {few[0]!r} has too few texts to train on any: give more, or others")
                self.labels = kinds[before][text]
                self._begin_as_naive_bayes(rows, real, kinds[before][text])
                self.held_out_labels = kinds[after].tolist()
        else:
            self.tokens = self.tokenizer.encode(training, "the corpus")
            self.held_out = self.tokenizer.encode(held_out, "the corpus")
        self.openings = tuple(map(self._shortened, _openings(training, settings.objective.context)))
        self.corpus_sha256 = corpus.sha256()
        self.fingerprint = hashlib.sha256(self.tokens.numpy().tobytes()).hexdigest()
        objective = settings.objective
        if self.real is None:
            check_length(len(self.tokens), len(self.held_out), window, objective.context, corpus.name)
        self.network.to(self.device)
        self.average = copy.deepcopy(self.network).requires_grad_(False).eval()
        # Listed once: walking the modules three times a step is 2% of a small one.
        self.weights: list[Tensor] = list(self.network.parameters())
        self.averages: list[Tensor] = list(self.average.parameters())
        self.optimizers = optimizers(self.network, settings.train, self.device, self.bfloat16)
        self.schedule = schedule(objective.schedule)
        self.unmaskable = torch.tensor([i for i in self.tokenizer.suppressed if i != self.tokenizer.mask_id])
        self.total_steps = self._steps_of_the_budget()
        self.begin()
        compiles = "on" if self.device == "cuda" and self.network.spec.compiles else "off"
        self.compiled = (compiles if settings.train.compile == "auto" else settings.train.compile) == "on"
        if self.compiled:
            self.network.wrap_trunk(torch.compile)

    def begin(self) -> None:
        """Start the clock: what came before is not training's."""
        self._begun: float | None = time.monotonic()

    def halt(self) -> None:
        """Stop the clock: what comes now is not training's either."""
        self.seconds, self._begun = self.elapsed, None

    def warm_up(self) -> str:
        """Have torch compile the model, which it does at its first call, by gradients that are thrown away.

        Every kind of step that training has is tried. Returns why it could not be compiled, and the model is then as
        it was; else nothing.
        """
        # With self-conditioning half of the steps make a first pass: a few seeds have both.
        seeds = range(_BOTH_WAYS if self.settings.model.self_conditioning else 1)
        try:
            with devices.compiling():
                for seed in seeds:
                    torch.manual_seed(seed)
                    self._gradients(torch.Generator().manual_seed(seed))
        except Exception as why:  # of any kind: no C++ compiler, an operation that it does not know, its own faults
            self.network.wrap_trunk(None)
            self.compiled = False
            return visible_line(f"{type(why).__name__}: {str(why).strip().partition(chr(10))[0]}")[:_REASON]
        finally:
            self.network.zero_grad(set_to_none=True)
        return ""

    @property
    def elapsed(self) -> float:
        """Seconds of training, over all resumes."""
        return self.seconds + (time.monotonic() - self._begun if self._begun is not None else 0.0)

    def spent(self) -> float:
        """Share of the budget that is spent."""
        if self.total_steps:
            return self.step / self.total_steps
        return self.elapsed / (60.0 * self.settings.train.minutes)

    def update(self, spent: float) -> tuple[list[Loss], Tensor]:
        """One optimizer step. Returns the losses of its batches and the gradient's norm before clipping."""
        options = self.settings.train
        generator = torch.Generator().manual_seed(noise.mix(options.seed, self.step, noise.TRAINING))
        if options.dropout or self.settings.model.self_conditioning:  # they draw from torch's own generator
            torch.manual_seed(noise.mix(options.seed, self.step, noise.DROPOUT))
        losses = self._gradients(generator)
        norm = self._clip(options.clip or math.inf)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = group["peak"] * rate(options, spent)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        decay = min(options.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(self.averages, self.weights, 1 - decay)
        self.step += 1
        return losses, norm

    def _gradients(self, generator: torch.Generator) -> list[Loss]:
        """Add up the gradients of one optimizer step's passes. Returns their losses, whose nats add up to the step's.

        The rows of all passes, their times and masks are drawn together, and each pass counts by its share of the
        step's tokens: so many passes are one larger batch.
        """
        accumulate, timesteps = self.settings.train.accumulate, self.settings.objective.timesteps
        losses = []
        clip = self.settings.objective.least_masked, self.settings.objective.most_masked
        contrast = self.settings.objective.contrast if self.labels is not None else 0.0
        together = self.settings.objective.mask_rate_per == "batch"
        tokens, maskable, told = self.batch(generator)
        if self.network.spec.causal:
            maskable, masks = self.network.spec.scorable(maskable), None
        else:
            masks = draw_masks(maskable, self.schedule, timesteps, generator, clip, together)
        shares = _shares(maskable, accumulate).tolist()
        labelled = _shares(told["label"] < len(self.corpus.classes), accumulate).tolist() if contrast else shares
        size, lengths = len(tokens) // accumulate, self._lengths(tokens, told)
        for n, length in enumerate(lengths):
            rows = slice(n * size, (n + 1) * size)
            part, may = tokens[rows, :length], maskable[rows, :length]
            with torch.autocast(self.device, torch.bfloat16, enabled=self.bfloat16):
                if masks is None:
                    scored = send(may, self.device)
                    log_p = self.network.log_likelihood(send(part, self.device), scored)
                    assert log_p is not None, "a causal model has an exact likelihood"
                    loss = autoregressive(-log_p, scored)
                else:
                    loss = bound(
                        self.network,
                        part,
                        may,
                        self.schedule,
                        timesteps,
                        generator,
                        conditioning={k: v[rows] if v.ndim == 1 else v[rows, :length] for k, v in told.items()},
                        classes=len(self.corpus.classes) if contrast else 0,
                        device=self.device,
                        even=self.compiled,
                        masks=masks.of(rows, length),
                    )
            loss = replace(loss, nats=loss.nats * shares[n])
            whole = loss.nats if loss.telling is None else loss.nats + contrast * labelled[n] * loss.telling
            torch.autograd.backward(whole)
            losses.append(loss)
        return losses

    def _lengths(self, tokens: Tensor, told: Conditioning) -> list[int]:
        """Of each pass of a step the places that its longest row has."""
        accumulate, longest = self.settings.train.accumulate, tokens.size(1)
        if accumulate == 1 or "attention" not in told or self.compiled:
            return [longest] * accumulate
        lengths: list[int] = told["attention"].sum(1).view(accumulate, -1).amax(1).tolist()
        return lengths

    def _clip(self, limit: float) -> Tensor:
        """Scale the gradient down to norm `limit` where it is above. Returns its norm () before."""
        norm = torch.nn.utils.get_total_norm([p.grad for p in self.weights if p.grad is not None])
        # Scaling by 1 is a pass over all weights; on a CPU looking first costs nothing, elsewhere it would wait.
        if self.device != "cpu" or not norm <= limit:
            torch.nn.utils.clip_grads_with_norm_(self.weights, limit, norm)
        return norm

    def _steps_of_the_budget(self) -> int:
        """Optimizer steps; 0 where the budget is the clock."""
        options = self.settings.train
        if options.epochs:
            return math.ceil(options.epochs * (self._real_tokens or len(self.tokens)) / self.step_tokens)
        if not options.steps and not options.minutes:
            raise TdiffError("training has no end: give train.steps, train.minutes or train.epochs")
        return options.steps

    def _begin_as_naive_bayes(self, rows: Tensor, real: Tensor, kinds: Tensor) -> None:
        """Where nothing tells the classes apart yet, let each token's share of their texts do so."""
        bias = self.network.label_bias
        if bias is None or bool(bias.weight.any()):
            return
        counts = torch.zeros(bias.weight.size(0) - 1, bias.weight.size(1))
        counts.index_put_((kinds[:, None].expand_as(rows)[real], rows[real]), torch.ones(()), accumulate=True)
        with torch.no_grad():
            bias.weight.copy_(naive_bayes(counts))

    @property
    def step_tokens(self) -> float:
        """Tokens of one optimizer step, padding apart: a mean, where there is some."""
        options = self.settings.train
        row = self.settings.model.window if self.real is None else self._real_tokens / len(self.tokens)
        return options.batch_size * options.accumulate * row

    def _shortened(self, opening: str) -> str:
        """The opening, of no more tokens than prompts have in training."""
        ids, most = self.tokenizer.encode(opening, "the corpus"), self.settings.objective.context
        # A cut may come within a character whose bytes are several tokens.
        return opening if len(ids) <= most else self.tokenizer.decode(ids[:most]).rstrip(UNKNOWN_TEXT)

    def batch(self, generator: torch.Generator) -> tuple[Tensor, Tensor, Conditioning]:
        """Rows (B, L) of one optimizer step, which of their places may be masked, and what the network is told of them.

        All of it on the CPU, whatever the device: what is drawn there is known without a wait, and is the same for
        every device. Packed rows are cut from the training part at any offset; L is the window. Padded ones are texts,
        L is the longest of them, and told are padding and, of most rows, the class.
        """
        options, window, objective = self.settings.train, self.settings.model.window, self.settings.objective
        count, told = options.batch_size * options.accumulate, dict[str, Tensor]()
        if self.real is None:
            first = torch.randint(len(self.tokens) - window + 1, (count, 1), generator=generator)
            tokens = self.tokens[first + torch.arange(window)]
        else:
            chosen = torch.randint(len(self.tokens), (count,), generator=generator)
            longest = int(self.real[chosen].sum(1).max())
            if self.compiled:  # which would be done again for every length
                longest = self.tokens.size(1)
            tokens, told["attention"] = self.tokens[chosen, :longest], self.real[chosen, :longest]
            if self.labels is not None:
                untold = torch.rand(count, generator=generator) < options.label_dropout
                told["label"] = self.labels[chosen].masked_fill(untold, len(self.corpus.classes))
        maskable = protect(count, tokens.size(1), objective.context, objective.context_mode, generator)
        if len(self.unmaskable):
            maskable &= ~torch.isin(tokens, self.unmaskable)
        return tokens, maskable & told["attention"] if told else maskable, told

    def _encoded(self, places: Sequence[int]) -> list[Tensor]:
        """The tokens of some texts, by their numbers."""
        return [self.tokenizer.encode(self.corpus.texts[n], "the corpus") for n in places]

    def _texts(self) -> tuple[list[int], list[int]]:
        """The texts to train on, and those held out, by their numbers. Raises TdiffError where there is none of one."""
        only = self.settings.data.only
        if only and only not in self.corpus.classes:
            raise unknown("class", only, self.corpus.classes)
        before, after = self.corpus.split_places(self.settings.data.held_out, only)
        if not before or not after:
            raise TdiffError(
                f"{self.corpus.name} has {len(before) + len(after):,} text, too few to hold some out with data.rows "
                "padded: give more, or have it packed"
            )
        return before, after

    def final_seconds(self) -> float | None:
        """Seconds that what follows training may take; None: no limit."""
        options = self.settings.train
        return 60.0 * options.minutes * options.final_share or None

    def evaluate_finally(
        self, stop: Callable[[], bool], seconds: float | None, progress: Progress
    ) -> Iterator[events.Eval]:
        """The bound on all held-out text, or on a random part of it that takes about `seconds`.

        How much that is, a small part tells. Nothing where `stop` said so meanwhile.
        """
        limit = None
        if seconds is not None:
            total = self._held_out_tokens()
            start, trial = time.monotonic(), max(total // 200, 2 * self.settings.model.window)
            if trial < total and not list(self.evaluate(trial, stop, least=1)):
                return
            taken = time.monotonic() - start
            affordable = int(_MARGIN * trial * (seconds - taken) / taken)
            limit = max(affordable, 1) if affordable < total else None
        # More draws for few windows would take the time that was counted on for the others.
        yield from self.evaluate(limit, stop, progress, final=True, least=LEAST_DRAWS if limit is None else 1)

    def evaluate(
        self,
        limit: int | None,
        stop: Callable[[], bool] = lambda: False,
        progress: Progress = lambda done, total: None,
        *,
        final: bool = False,
        least: int = LEAST_DRAWS,
    ) -> Iterator[events.Eval]:
        """The bound of the averaged weights on held-out text: about `limit` tokens spread over it, or all.

        A `final` one draws its part at random. Nothing where `stop` said so meanwhile.
        """

        def ask(done: int, total: int) -> None:
            if stop():
                raise _Stopped
            progress(done, total)

        def spread(count: int, of: int) -> Tensor:
            if final:
                return torch.randperm(of, generator=torch.Generator().manual_seed(self.step))[:count].sort().values
            return torch.linspace(0, of - 1, count).long()

        ids, window, labels = self.held_out, self.settings.model.window, None
        if isinstance(ids, list):
            wanted = len(ids) if limit is None else max(1, limit * len(ids) // max(1, sum(map(len, ids))))
            some = spread(min(wanted, len(ids)), len(ids)).tolist()
            ids = [ids[n] for n in some]
            labels = [self.held_out_labels[n] for n in some] if self.held_out_labels else None
        elif limit is not None and limit < len(ids):
            rows = ids[: len(ids) // window * window].view(-1, window)
            ids = rows[spread(max(1, limit // window), len(rows))].flatten()
        try:
            result = score(self.average, ids, self.tokenizer.lengths, draws=2, least=least, progress=ask, labels=labels)
        except _Stopped:
            return
        yield events.Eval(
            time=time.time(),
            step=self.step,
            nats_per_token=result.nats_per_token,
            nats_per_char=result.nats_per_char,
            interval_95=result.interval_95,
            tokens=result.tokens,
            final=final,
            part=1.0 if limit is None or not final else min(1.0, result.tokens / self._held_out_tokens()),
        )

    def _held_out_tokens(self) -> int:
        return len(self.held_out) if isinstance(self.held_out, Tensor) else sum(map(len, self.held_out))

    def calibrate(
        self,
        stop: Callable[[], bool] = lambda: False,
        seconds: float | None = None,
        progress: Progress = lambda done, total: None,
    ) -> Iterator[events.Verdicts]:
        """Find the temperature of the averaged weights' verdicts on held-out texts; it is saved with the model.

        After `seconds` no further text is scored. Nothing where `stop` said so meanwhile.
        """
        assert isinstance(self.held_out, list) and self.held_out_labels is not None, "classes want rows of texts"
        model = LoadedModel(self.run.name, self.run.model, self.average, self.tokenizer, self.origin())
        told = calibrate(
            of_one(model, self.device, self.bfloat16),
            self.held_out,
            self.held_out_labels,
            self.settings.train.calibrate,
            seed=self.settings.train.seed,
            stop=stop,
            progress=progress,
            seconds=seconds,
        )
        if told is not None:
            self.temperature = told.temperature
            yield verdicts_record(told, self.step)

    def sample(self) -> events.Sample | events.Heartbeat:
        """A text written by the averaged weights, its trace going to samples/; or why there is none."""
        causal = self.average.spec.causal
        model = LoadedModel(self.run.name, self.run.model, self.average, self.tokenizer, self.origin())
        prompt = opening(model, self.settings.train.seed, self.step)
        length = self.settings.model.window - len(prompt_ids(model, prompt))
        try:
            lines = list(narrate(model, prompt, _FROM_THE_LEFT if causal else _SAMPLE, length=length))
        except TdiffError as why:  # such as a model that wants a prompt where there are no openings
            return self.heartbeat(f"no sample: {why}")
        path = f"samples/{self.step:08d}.jsonl"
        write_whole(self.run.path / path, "".join(map(events.to_line, lines)).encode())
        text = next(line.text for line in lines if isinstance(line, events.TraceEnd))
        return events.Sample(time=time.time(), step=self.step, prompt=prompt, text=text, path=path)

    def origin(self) -> Origin:
        """What the model remembers of this training."""
        data, objective = self.settings.data, self.settings.objective
        return Origin(
            corpus=self.corpus.name,
            sources=data.sources,
            text_field=data.text_field,
            timesteps=objective.timesteps,
            schedule=objective.schedule,
            context=objective.context,
            context_mode=objective.context_mode,
            openings=self.openings,
            steps=self.step,
            tokens=round(self.step * self.step_tokens),
            corpus_sha256=self.corpus_sha256,
            held_out=data.held_out,
            decoding=self.settings.train.decoding,
            rows=data.rows,
            classes=self.corpus.classes if data.classes else (),
            counts=self._counts() if data.classes else (),
            label_field=data.label_field,
            only=data.only,
            evaluation=data.evaluation,
            temperature=self.temperature,
        )

    def _counts(self) -> tuple[int, ...]:
        """Texts of each class in the training part."""
        counted = Counter(self.corpus.labels[n] for n in self._texts()[0])
        return tuple(counted[name] for name in self.corpus.classes)

    def start_record(self) -> events.Start:
        """The run's first record."""
        return events.Start(
            time=time.time(),
            run=self.run.name,
            version=__version__,
            settings=self.settings.as_layer(),
            corpus=self.corpus.name,
            tokens=self._real_tokens or len(self.tokens),
            vocabulary=len(self.tokenizer),
            parameters=sum(p.numel() for p in self.network.parameters()),
            device=self.device,
            threads=torch.get_num_threads(),
            pid=os.getpid(),
            host=platform.node(),
            steps=self.total_steps or None,
            minutes=self.settings.train.minutes or None,
        )

    def heartbeat(self, doing: str) -> events.Heartbeat:
        """Conditioning before something long."""
        return events.Heartbeat(time=time.time(), step=self.step, doing=doing)

    @torch.no_grad()
    def finite(self) -> bool:
        """Whether all weights are numbers still."""
        weights = [*self.weights, *self.averages]
        with torch.no_grad():
            return math.isfinite(float(torch.stack(torch._foreach_norm(weights, math.inf)).sum()))

    def nan_alert(self) -> events.Alert:
        """The loss, its gradient or the weights are not finite any more."""
        text = (
            f"the loss or its gradient is not finite at step {self.step}; the weights of the last save are kept in "
            f"{self.run.model}; try a lower learning rate"
        )
        return events.Alert(time=time.time(), step=self.step, what="nan", text=text)

    def save(self) -> events.Checkpoint:
        """Write the model and what a resume needs."""
        precision = self.settings.train.weights
        initialize.save(self.run.model, self.average, self.tokenizer, self.origin(), precision)
        # Parameters and not the state, in which a weight that stands in two places comes twice.
        tensors = {f"network.{name}": t for name, t in self.network.named_parameters()}
        tensors |= {f"average.{name}": t for name, t in self.average.named_parameters()}
        for n, optimizer in enumerate(self.optimizers):
            for i, state in optimizer.state_dict()["state"].items():
                tensors |= {f"optimizer.{n}.{i}.{key}": value for key, value in state.items()}
        notes = {"step": str(self.step), "seconds": repr(self.elapsed), "corpus": self.fingerprint}
        notes["temperature"] = repr(self.temperature)
        write_whole(self.run.state, save({k: t.detach().cpu().contiguous() for k, t in tensors.items()}, notes))
        return events.Checkpoint(time=time.time(), step=self.step, path="model")

    def load(self) -> None:
        """Take up the state of the last save."""
        path = self.run.state
        tensors = read_tensors(path)
        with safe_open(path, "pt") as file:
            notes = file.metadata() or {}
        if notes.get("corpus") != self.fingerprint:
            raise TdiffError(
                f"run {self.run.name!r} was trained on another text than data.sources now gives ({self.corpus.name}); "
                "a resume goes on with the same text"
            )
        for prefix, network in (("network.", self.network), ("average.", self.average)):
            put_weights(network, {k.removeprefix(prefix): t for k, t in tensors.items() if k.startswith(prefix)}, path)
        for n, optimizer in enumerate(self.optimizers):
            states: dict[int, dict[str, Tensor]] = {}
            for key, tensor in tensors.items():
                if key.startswith(f"optimizer.{n}."):
                    i, name = key.split(".")[2:]
                    states.setdefault(int(i), {})[name] = tensor
            optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})
        self.step, self.seconds = int(notes["step"]), float(notes["seconds"])
        self.temperature = float(notes.get("temperature", 0.0))


def _shares(counted: Tensor, parts: int) -> Tensor:
    """(parts,): the share of what is `counted` (B, ...) bool that each of so many parts of the rows has."""
    counts = counted.view(parts, -1).sum(1)
    return counts / counts.sum().clamp(min=1)


def verdicts_record(told: Calibration, step: int) -> events.Verdicts:
    """What a calibration found, for the run's log."""
    return events.Verdicts(
        time=time.time(),
        step=step,
        texts=told.assessment.texts,
        accuracy=told.assessment.accuracy,
        interval_95=told.assessment.interval_95,
        ece=told.assessment.ece,
        temperature=told.temperature,
    )


def rate(options: TrainSettings, spent: float) -> float:
    """The learning rate, as a share of its peak, when the share `spent` of the budget is: up, level, linearly down."""
    if options.warmup and spent < options.warmup:
        return max(spent, 1e-3 * options.warmup) / options.warmup
    if options.decay and spent > 1 - options.decay:
        return options.final_lr + (1 - options.final_lr) * (1 - spent) / options.decay
    return 1.0


def _openings(training: str, context: int) -> tuple[str, ...]:
    """Beginnings to start texts from, up to `context` characters: of lines, cut after a blank; else of any place."""
    if not context:
        return ()
    lines = [line[: context + 1] for line in training.splitlines() if len(line.split()) > 2]
    # With the blank: without it a model may go on with the word.
    cut = [line if len(line) <= context else line[: line.rfind(" ", 0, context) + 1 or context] for line in lines]
    found = [text for text in cut if text.strip()] or [
        training[i : i + context] for i in range(0, max(1, len(training) - context), max(1, context))
    ]
    return tuple(dict.fromkeys(filter(None, found[:: max(1, len(found) // _OPENINGS)][:_OPENINGS])))
