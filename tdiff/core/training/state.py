"""The state of a run in training: network, its running average, optimizers and step, and how it is saved and loaded.

All randomness of a step is keyed by (seed, step, row), so that a resumed run draws what an unbroken one would have
drawn, and nothing but the step needs to be stored.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from tdiff.config.settings import Settings
from tdiff.core import devices
from tdiff.core.diffusion import noise
from tdiff.core.diffusion.objective import Loss, exact_loss, nelbo_loss, other_labels, sample_masks
from tdiff.core.diffusion.schedules import schedule
from tdiff.core.mask_indices import send
from tdiff.core.models.labels import naive_bayes
from tdiff.core.models.origin import Origin
from tdiff.core.training import initialize, row_dropout
from tdiff.core.training.data import Batch, TrainingSet
from tdiff.core.training.distributed import World
from tdiff.core.training.optim import optimizers, rate
from tdiff.core.training.replica import Replica
from tdiff.core.training.row_dropout import EachItsOwn, PassRows
from tdiff.core.training.saved_state import SavedTensors
from tdiff.corpus.corpus import Corpus
from tdiff.errors import TdiffError
from tdiff.runs import retention
from tdiff.runs.run import Run
from tdiff.visible import visible_line

STREAM = 2
"""Version of the random numbers of training, saved with each run; 1: one generator drew all rows of a step."""
_WARM_UP_SEEDS = 6
"""Among the first random numbers of so many seeds some are below a half and some above."""
_REASON = 300
"""Characters of a reason, at most."""


class TrainState:
    """A run in training, between one step and the next."""

    def __init__(
        self,
        settings: Settings,
        run: Run,
        corpus: Corpus,
        world: World | None = None,
        writing: Callable[[int, int], None] | None = None,
    ) -> None:
        """Raises TdiffError for a device that is not available, a corpus that is too short, or settings in conflict."""
        self.settings, self.run, self.corpus = settings, run, corpus
        self.world = world or World()
        self.passes = self.world.passes(settings.train.batch_size, settings.train.accumulate)
        self.device = devices.choose(settings.train.device)
        self.world.check_device(self.device)
        devices.keep_memory(self.device)
        self.bfloat16 = devices.in_bfloat16(settings.train.precision, self.device)
        self.step, self.seconds, self.temperature = 0, 0.0, 0.0
        self.stream, self.saved_by = STREAM, self.world.size
        self.saved_step = -1
        """The step of the last save, by any process; -1 without one."""
        self.held_back = False
        """Whether the last update left the weights as they were, since its loss or gradient was not finite."""
        training, _ = corpus.split(settings.data.held_out, settings.data.rows)
        self.network, self.tokenizer = initialize.initial_model(settings, run, corpus, training)
        with self.world.in_turn() if settings.data.token_files else nullcontext():  # the first process writes them
            self.data = TrainingSet(settings, corpus, self.tokenizer, writing)
        self.noise_variant = 0
        self.corpus_sha256 = self.data.files.text_sha256 if self.data.files else corpus.sha256()
        self._start_as_naive_bayes()
        self.replica = self._replica()
        self.average, self.weights, self.averages = self.replica.average, self.replica.weights, self.replica.averages
        self.optimizers = optimizers(self.replica, settings.train, self.device, self.bfloat16)
        self.replica.optimizers = self.optimizers
        self.schedule = schedule(settings.objective.schedule)
        self.total_steps = self._budget_steps()
        self.start_clock()
        compiles = "on" if self.device == "cuda" and self.network.spec.compiles else "off"
        self.compiled = (compiles if settings.train.compile == "auto" else settings.train.compile) == "on"
        if self.compiled:
            self.network.wrap_trunk(torch.compile)

    def _replica(self) -> Replica:
        """The weights on the device: whole, or this process's part of them."""
        if not self.settings.train.fsdp or self.world.size == 1:
            return Replica(self.network, self.device)
        from tdiff.core.training.fsdp import Shards  # which takes seconds to import

        return Shards(self.network, self.device, self.world)

    @property
    def noise_variant(self) -> int:
        """Which random numbers the steps draw: 0 at first, and another number after each rewind."""
        return self._variant

    @noise_variant.setter
    def noise_variant(self, number: int) -> None:
        self._variant, seed = number, self.settings.train.seed
        self.data.seed = noise.mix(seed, noise.REWIND, number) if number else seed

    def start_clock(self) -> None:
        """Count time as training's from now on."""
        self._started: float | None = time.monotonic()

    def stop_clock(self) -> None:
        """Count no more time as training's."""
        self.seconds, self._started = self.elapsed, None

    @property
    def elapsed(self) -> float:
        """Seconds of training, over all resumes."""
        return self.seconds + (time.monotonic() - self._started if self._started is not None else 0.0)

    def spent(self) -> float:
        """The part of the budget that is spent, 0..1 or a little more."""
        if self.total_steps:
            return self.step / self.total_steps
        return self.world.agreed(self.elapsed / (60.0 * self.settings.train.minutes))

    def _budget_steps(self) -> int:
        """Optimizer steps of the budget; 0 where the budget is the clock."""
        options = self.settings.train
        if options.epochs:
            return math.ceil(options.epochs * self.data.token_count / self.data.step_tokens)
        if not options.steps and not options.minutes:
            raise TdiffError("training has no end: give train.steps, train.minutes or train.epochs")
        return options.steps

    def _start_as_naive_bayes(self) -> None:
        """Start label biases that are still zero at the log odds of each token among the classes."""
        if self.data.labels is None:
            return
        bias = self.network.label_bias
        if bias is None or bool(bias.weight.any()):
            return
        with torch.no_grad():
            bias.weight.copy_(naive_bayes(self.data.class_tokens(bias.weight.size(1))))

    def warm_up(self) -> str:
        """Have torch compile the model, which it does at its first call, by gradients that are thrown away.

        Every kind of step that training has is tried. Returns an empty string, or why torch could not compile the
        model, which is then as it was.
        """
        # With self-conditioning half of the steps make a first pass: a few seeds have both.
        seeds = range(_WARM_UP_SEEDS if self.settings.model.self_conditioning else 1)
        world, self.world = self.world, World(self.world.rank, self.world.size)  # one may fail where another does not
        try:
            with devices.compiling():
                for seed in seeds:
                    torch.manual_seed(seed)
                    self.backward(seed)
        except Exception as error:  # of any kind: no C++ compiler, an unsupported operation, an error in the compiler
            self.network.wrap_trunk(None)
            self.compiled = False
            return visible_line(f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}")[:_REASON]
        finally:
            self.world = world
            self.network.zero_grad(set_to_none=True)
        return ""

    def update(self, spent: float) -> tuple[list[Loss], Tensor]:
        """Take one optimizer step. Returns the losses of its passes and the gradient's norm () before clipping.

        Unless `train.on_nan` is stop, a loss or a gradient that is not finite changes no weight: see `held_back`.
        """
        options = self.settings.train
        if options.dropout or self.settings.model.self_conditioning:  # they draw from torch's own generator
            row_dropout.seed_step(self.data.seed, self.step, self.world)
        with self.replica.reducing():
            losses = self.backward(self.step)
        self.replica.add_gradients(self.world)
        norm = self._clip(options.clip or math.inf)
        self.held_back = options.on_nan != "stop" and self._not_finite(losses, norm)
        if self.held_back:
            for optimizer in self.optimizers:
                optimizer.zero_grad(set_to_none=True)
            self.step += 1
            return losses, norm
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

    def backward(self, step: int) -> list[Loss]:
        """Compute this process's part of the gradient of a step. Returns the loss of each pass.

        The rows of all passes and processes are one batch, with one set of times and masks, and each pass counts by its
        share of the batch's tokens: the gradients, and the nats, of all passes and processes add up to those of the
        step.
        """
        passes, objective = self.passes, self.settings.objective
        losses = []
        clip = objective.least_masked, objective.most_masked
        contrast = objective.contrast if self.data.labels is not None else 0.0
        rows = self.world.rows(self.data.step_rows, passes)
        batch = self.data.batch(step, rows, full_width=self.compiled or self._shares_dropout)
        tokens, maskable, conditioning = batch.tokens, batch.maskable, batch.conditioning
        if self.network.spec.causal:
            maskable, masks = self.network.spec.scorable(maskable), None
        else:
            together = objective.mask_rate_per == "batch"
            masks = sample_masks(maskable, batch.row_noise, self.schedule, objective.timesteps, clip, together)
        shares = self._shares(maskable)
        classes = len(self.corpus.classes)
        other = other_labels(conditioning["label"], classes, batch.row_noise) if contrast else None
        labelled = self._shares(conditioning["label"] < classes) if contrast else shares
        size, calls = len(tokens) // passes, self._calls(batch, other)
        for n, length in enumerate(calls.lengths):
            rows_of_pass = slice(n * size, (n + 1) * size)
            part, may = tokens[rows_of_pass, :length], maskable[rows_of_pass, :length]
            with calls.dropout(n), torch.autocast(self.device, torch.bfloat16, enabled=self.bfloat16):
                if masks is None:
                    scored = send(may, self.device)
                    log_p = self.network.log_likelihood(send(part, self.device), scored)
                    assert log_p is not None, "a causal model has an exact likelihood"
                    loss = exact_loss(-log_p, scored)
                else:
                    loss = nelbo_loss(
                        self.network,
                        part,
                        may,
                        masks.of(rows_of_pass, length),
                        conditioning={
                            name: value[rows_of_pass] if value.ndim == 1 else value[rows_of_pass, :length]
                            for name, value in conditioning.items()
                        },
                        other=other[rows_of_pass] if other is not None else None,
                        device=self.device,
                        even=self.compiled,
                    )
            loss = replace(loss, nats=loss.nats * shares[n])
            combined = loss.nats if loss.contrastive is None else loss.nats + contrast * labelled[n] * loss.contrastive
            with calls.dropout(n):  # for activation checkpointing
                torch.autograd.backward(combined)
            losses.append(loss)
        return losses

    def _shares(self, counted: Tensor) -> list[float]:
        """For each pass, its share of what is true in `counted` (B, ...) bool over the whole step."""
        counts = counted.view(self.passes, -1).sum(1)
        shares: list[float] = (counts / self.world.total(counts.sum()).clamp(min=1)).tolist()
        return shares

    @property
    def _shares_dropout(self) -> bool:
        """Whether dropout is drawn for the rows of all processes."""
        return self.world.size > 1 and self.settings.train.dropout > 0 and self.device == "cpu"

    def _calls(self, batch: Batch, other: Tensor | None) -> PassRows | EachItsOwn:
        """The length of each pass and its dropout."""
        lengths = self._lengths(batch)
        if not self._shares_dropout:
            return EachItsOwn(lengths)
        again = (other >= 0).view(self.passes, -1).sum(1).tolist() if other is not None else [0] * self.passes
        return PassRows(self.world, len(batch.tokens) // self.passes, lengths, again)

    def _lengths(self, batch: Batch) -> list[int]:
        """For each pass, the positions of its longest row."""
        passes, longest = self.passes, batch.tokens.size(1)
        alone = passes == 1 and not self._shares_dropout
        if alone or "attention" not in batch.conditioning or self.compiled:
            return [longest] * passes
        lengths: list[int] = batch.conditioning["attention"].sum(1).view(passes, -1).amax(1).tolist()
        return lengths

    def _clip(self, limit: float) -> Tensor:
        """Scale the gradient down to norm `limit` where it is above. Returns its norm () before."""
        norm = self.replica.norm()
        # Scaling by 1 is a pass over all weights. A CPU compares first at no cost; another device would wait for that.
        if self.device != "cpu" or not norm <= limit:
            torch.nn.utils.clip_grads_with_norm_(self.weights, limit, norm)
        return norm

    def _not_finite(self, losses: list[Loss], norm: Tensor) -> bool:
        """Whether a loss or the norm () of the gradient is not finite in any process. Waits for the device."""
        values = torch.stack([norm, *(loss.nats.detach() for loss in losses)])
        return bool(self.world.total((~torch.isfinite(values)).any().float()) > 0)

    def finite(self) -> bool:
        """Whether all weights are still finite numbers."""
        return self.replica.finite()

    def origin(self) -> Origin:
        """The provenance of the model: the text, the objective and how far it has been trained."""
        data, objective = self.settings.data, self.settings.objective
        return Origin(
            corpus=self.corpus.name,
            sources=data.sources,
            text_field=data.text_field,
            timesteps=objective.timesteps,
            schedule=objective.schedule,
            context=objective.context,
            context_mode=objective.context_mode,
            openings=self.data.prompts,
            steps=self.step,
            tokens=round(self.step * self.data.step_tokens),
            corpus_sha256=self.corpus_sha256,
            held_out=data.held_out,
            decoding=self.settings.train.decoding,
            rows=data.rows,
            classes=self.corpus.classes if data.classes else (),
            counts=self.data.class_texts,
            label_field=data.label_field,
            only=data.only,
            evaluation=data.evaluation,
            temperature=self.temperature,
        )

    def save(self) -> None:
        """Write the model, and the state that a resume needs."""
        self.saved_step = self.step
        with self.replica.led():
            if self.world.leads:
                self._save()

    def _save(self) -> None:
        keep_last = self.settings.train.keep_last
        self.run.sync_events()  # first: a power cut must not leave a save whose records are missing
        retention.set_aside(self.run, keep_last, self.step)
        self.save_model(self.run.model)
        notes = {"step": str(self.step), "seconds": repr(self.elapsed), "corpus": self.data.fingerprint}
        notes |= {"temperature": repr(self.temperature), "stream": str(STREAM), "noise": str(self.noise_variant)}
        notes["processes"] = str(self.world.size)
        self.replica.save(self.run.state, notes)
        retention.remove_other_parts(self.run)
        retention.prune(self.run, keep_last, self.step)

    def save_model(self, folder: Path) -> None:
        """Write the averaged weights as a model."""
        initialize.save(folder, self.replica.averaged(), self.tokenizer, self.origin(), self.settings.train.weights)

    def load(self) -> None:
        """Load the state of the last save. Raises TdiffError where it is of another text or does not fit."""
        path = self.run.state
        tensors = SavedTensors(path)
        notes = tensors.notes
        if notes.get("corpus") != self.data.fingerprint:
            raise TdiffError(
                f"run {self.run.name!r} was trained on another text than data.sources now gives ({self.corpus.name}); "
                "a resume continues with the same text"
            )
        self.replica.load(tensors, path)
        self.step, self.seconds = int(notes["step"]), float(notes["seconds"])
        self.noise_variant, self.saved_step = int(notes.get("noise", 0)), self.step
        self.temperature, self.stream = float(notes.get("temperature", 0.0)), int(notes.get("stream", 1))
        self.saved_by = int(notes.get("processes", 1))
