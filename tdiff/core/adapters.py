"""Hugging Face masked language models as denoisers, from folders on disk.

transformers is imported inside functions, since that takes seconds. The weights are read here and handed to it, so that
it opens no file but the tokenizer's: no pickle, no adapter, no code that came with a model, and nothing of the network.
What a model wants around its text (`[CLS] ... [SEP]`) is put there here; who calls sees a canvas of text alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tdiff.config import MOST
from tdiff.core.checkpoint import LoadedModel, Origin, read_config, read_tensors
from tdiff.errors import TdiffError
from tdiff.visible import visible, visible_line

MASKED, UNKNOWN = "█", "\ufffd"
"""How these tokens are shown; see `tokenizers`."""
_OVERLAP = 16
"""Places of context for the next window of a sliding canvas: nobody practised another number."""
_PLACEHOLDER = re.compile(r"\[unused\d+\]|<unused\d+>|madeupword\d+")
"""Entries of BERT's and RoBERTa's vocabularies that stand for nothing."""
_UNSAID = 512
"""Places of a model that says nothing of how far it sees."""
_LONGEST = 200  # characters of another program's error


def load(name: str, folder: Path, config: dict[str, Any], device: str) -> LoadedModel:
    """The masked language model in `folder`, whose config.json says `config`, in evaluation mode and float32.

    Raises TdiffError where it is of a kind that fills in no masks, its weights are missing, damaged, pickled or lack
    the part that proposes tokens, or its tokenizer is missing or does not fit.
    """
    what = f"model {name!r} is of type {config['model_type']!r}"
    files = _weights(name, folder)
    settings = _settings(what, config)
    tokenizer = _read_tokenizer(name, folder, settings)
    with _one_line(f"{what}, and transformers cannot build it"):
        kind = _transformers().MODEL_FOR_MASKED_LM_MAPPING[type(settings)]
        model, info = kind.from_pretrained(
            None,
            config=settings,
            state_dict={key: tensor for file in files for key, tensor in read_tensors(file).items()},
            dtype=torch.float32,
            ignore_mismatched_sizes=True,  # which are told below
            output_loading_info=True,
        )
    _check(what, model, info)
    for weight in model.parameters():
        # One after another out of the file, which is mapped into memory and may be rewritten while the model is used.
        weight.data = weight.data.to(device, copy=True)
        if not bool(torch.isfinite(weight).all()):
            key = next(key for key, value in model.named_parameters() if value is weight)
            raise TdiffError(f"{what}, and among its weights {key} holds numbers that are not finite")
    model.requires_grad_(False).eval().to(device)
    with _one_line(f"{what} and cannot be asked for the tokens of a text"):
        network = MaskedLM(model, tokenizer).to(device)
    step = re.fullmatch(r"checkpoint-(\d+)", folder.name)
    label = f"{folder.resolve().parent.name}/{folder.name}" if step else folder.resolve().name
    return LoadedModel(label, folder, network, tokenizer, _origin(int(step[1]) if step else 0))


def _transformers() -> Any:
    """The library, with nothing to say."""
    import transformers

    library: Any = transformers
    library.logging.set_verbosity_error()
    library.logging.disable_progress_bar()
    return library


def _origin(steps: int) -> Origin:
    return Origin(
        corpus="",
        sources=(),
        text_field="text",
        timesteps=0,
        schedule="linear",
        context=_OVERLAP,
        context_mode="random",
        openings=(),
        steps=steps,
        tokens=0,
    )


@contextmanager
def _one_line(what: str) -> Iterator[None]:
    """Whatever transformers raises, as one line that begins with `what`."""
    try:
        yield
    except (TdiffError, MemoryError):
        raise
    except Exception as why:  # of any class: OSError, ValueError, KeyError, ImportError, bare Exception ...
        said = visible_line((str(why).strip() or type(why).__name__).splitlines()[0])
        said = said if len(said) <= _LONGEST else said[: _LONGEST - 1] + "…"
        raise TdiffError(f"{what}: {said}") from None


def _settings(what: str, config: dict[str, Any]) -> Any:
    """The configuration as transformers holds it. Raises TdiffError where it is not that of a masked language model."""
    transformers, kind = _transformers(), config["model_type"]
    with _one_line(f"{what}, and its config.json cannot be used"):
        if kind not in transformers.models.auto.modeling_auto.MODEL_FOR_MASKED_LM_MAPPING_NAMES:
            raise TdiffError(
                f"{what}, which is not a masked language model; tdiff reads its own models and those of Hugging Face "
                "that fill in masks, such as bert, roberta or modernbert"
            )
        # Not the folder's to say: which file is read, and how attention is computed, which may be code from a hub.
        kept = {k: v for k, v in config.items() if k != "transformers_weights" and not k.endswith("_implementation")}
        settings = transformers.CONFIG_MAPPING[kind].from_dict(kept)
    if getattr(settings, "is_decoder", False) or getattr(settings, "is_encoder_decoder", False):
        raise TdiffError(f"{what} with a decoder, which writes from left to right and cannot fill in masks")
    return settings


def _weights(name: str, folder: Path) -> list[Path]:
    """The safetensors files of a model, one or several with an index. Raises TdiffError where there are none."""
    whole, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if whole.is_file():
        return [whole]
    if index.is_file():
        names = read_config(index).get("weight_map")
        shards = sorted(set(names.values())) if isinstance(names, dict) else []
        if not shards or not all(isinstance(n, str) and n == Path(n).name for n in shards):
            raise TdiffError(f"the index of weights {str(index)!r} names no files beside it")
        return [folder / shard for shard in shards]
    if any(folder.glob("*.bin")) or any(folder.glob("*.pt")):
        raise TdiffError(
            f"no model {name!r}: {folder} holds pickled weights and no model.safetensors; tdiff reads safetensors "
            "only, since loading a pickle can run code"
        )
    raise TdiffError(f"weights {str(whole)!r} do not exist")


def _check(what: str, model: Any, info: dict[str, Any]) -> None:
    """Raises TdiffError where the weights were not all in the checkpoint; what transformers made up is no model."""
    missing, wrong = sorted(info["missing_keys"]), sorted(info["mismatched_keys"], key=str)
    trunk = f"{model.base_model_prefix}."
    head = [key for key in missing if not key.startswith(trunk)]
    if len(head) == len(missing) > 0:
        raise TdiffError(
            f"{what}, but its masked-LM head was not in the checkpoint, which lacks {_some(head)}: it was trained for "
            "something else, or saved without that part"
        )
    if missing:
        raise TdiffError(f"{what}, and its weights lack {_some(missing)}, which config.json asks for")
    if wrong:
        key, *shapes = wrong[0]
        came, asked = (tuple(shape) for shape in shapes)
        raise TdiffError(f"{what}, and its weights do not fit: {key} has shape {came}, config.json asks for {asked}")


def _some(names: Sequence[str]) -> str:
    return names[0] + (f" and {len(names) - 1} more" if len(names) > 1 else "")


def _read_tokenizer(name: str, folder: Path, settings: Any) -> HubTokenizer:
    # Where there is none transformers makes up an empty one.
    if not any(file for pattern in ("tokenizer.json", "vocab*", "*.model", "*.vocab") for file in folder.glob(pattern)):
        raise TdiffError(f"tokenizer {str(folder / 'tokenizer.json')!r} does not exist, nor a vocabulary beside it")
    with _one_line(f"tokenizer {str(folder / 'tokenizer.json')!r} is damaged or of a kind that is not known"):
        tokenizer = _transformers().AutoTokenizer.from_pretrained(
            str(folder), config=settings, local_files_only=True, trust_remote_code=False
        )
        return HubTokenizer(tokenizer, settings.vocab_size, name)


class HubTokenizer:
    """A tokenizer of transformers as the rest of tdiff knows one; ids of special tokens never come from a text.

    What a token looks like is asked of the tokenizer's own decoder: how it stands between two other tokens.
    """

    def __init__(self, tokenizer: Any, vocab_size: int, name: str) -> None:
        """`vocab_size` is the model's. Raises TdiffError where there is no mask token, or the two do not fit."""
        if not isinstance(vocab_size, int) or not 1 < vocab_size <= MOST:
            raise TdiffError(f"model {name!r}: vocab_size cannot be {vocab_size!r}")
        self._tokenizer = tokenizer
        decoder = getattr(getattr(tokenizer, "backend_tokenizer", None), "decoder", None)
        self._join = decoder.decode if decoder else tokenizer.convert_tokens_to_string
        marked = {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
        special = marked.union(tokenizer.all_special_ids)
        if tokenizer.mask_token_id is None or tokenizer.mask_token_id >= vocab_size:
            raise TdiffError(f"model {name!r} has no mask token, so there is nothing that it could fill in")
        self.mask_id: int = tokenizer.mask_token_id
        self.unknown_id: int | None = tokenizer.unk_token_id
        vocabulary = tokenizer.get_vocab()
        texts = {i: token for token, i in vocabulary.items() if i not in special}
        if not texts or max(texts) >= vocab_size or (self.unknown_id or 0) >= vocab_size:
            raise TdiffError(
                f"model {name!r} does not fit its tokenizer: config.json says {vocab_size} tokens, but the tokenizer "
                f"has {len(vocabulary)}, the last of them {max(texts, default=-1)}"
            )
        proposable = {i for i, token in texts.items() if not _PLACEHOLDER.fullmatch(token)}
        self.suppressed = tuple(i for i in range(vocab_size) if i not in proposable)
        """Ids that a model must never propose: special tokens, placeholders, and those that no token has."""
        self._not_text = special - {self.unknown_id}
        # Ids without a token, which models have so that their number is round, never come to be shown.
        names = texts | {i: token for token, i in vocabulary.items() if i in special and i < vocab_size}
        names |= {self.mask_id: MASKED} | ({self.unknown_id: UNKNOWN} if self.unknown_id is not None else {})
        self._tokens = [names.get(i, UNKNOWN) for i in range(vocab_size)]
        raw = self._between(sorted(proposable))
        self.pieces = [visible(text) for text in raw]
        """The text of each token as it stands inside a text, safe to print; a byte that is no character is shown so."""
        self.lengths = torch.tensor([len(text) for text in raw])
        """(V,) int64: the characters of each token."""
        self.begin, self.end = self._around()

    def __len__(self) -> int:
        return len(self.pieces)

    def encode(self, text: str, what: str = "the text") -> Tensor:
        """Ids (L,) int64, without begin and end. Raises TdiffError for what is no text, or spells a special token."""
        try:
            text.encode()
        except UnicodeEncodeError as why:
            raise TdiffError(
                f"character {text[why.start]!r} at place {why.start + 1} of {what} is half of a character"
            ) from None
        ids = self._ids(text)
        for i in ids:
            if i in self._not_text:
                token = self._tokenizer.convert_ids_to_tokens(i)
                raise TdiffError(f"{what} holds {token!r}, which is no text but a special token of the model")
        return torch.tensor(ids, dtype=torch.int64)

    def decode(self, ids: Iterable[int] | Tensor) -> str:
        """The text of the ids; a mask is shown as a full block."""
        text: str = self._join([self._tokens[i] for i in (ids.tolist() if isinstance(ids, Tensor) else ids)])
        return text

    def _ids(self, text: str, special: bool = False) -> list[int]:
        """With `special` the tokens around a text are added, and those in it are read as such."""
        # Tokenizers written in Python would no longer find any token in a text without spaces.
        split = not special and self._tokenizer.is_fast
        ids: list[int] = self._tokenizer.encode(
            text, add_special_tokens=special, split_special_tokens=split, truncation=False, verbose=False
        )
        return ids

    def _between(self, proposable: Sequence[int]) -> list[str]:
        """The text of each token between two words, which is all of it but those words."""
        for i in proposable:
            word = self._tokens[i]
            one, two = self._join([word]), self._join([word, word])
            if one.isascii() and one.isalpha() and two.startswith(one):
                break
        else:
            return [self._join([token]) for token in self._tokens]
        last, texts = two[len(one) :], []
        for token in self._tokens:
            text = self._join([word, token, word])
            fits = text.startswith(one) and text.endswith(last) and len(text) >= len(two)
            texts.append(text[len(one) : len(text) - len(last)] if fits else self._join([token]))
        return texts

    def _around(self) -> tuple[list[int], list[int]]:
        """What the tokenizer puts before and after a text."""
        whole, text = self._ids("a", special=True), self._ids("a")
        for start in range(len(whole) - len(text) + 1):
            if text and whole[start : start + len(text)] == text:
                return whole[:start], whole[start + len(text) :]
        return [], []


@dataclass(frozen=True, slots=True)
class Extent:
    """What may be asked of a model without knowing how it is built; see `models.Shape`."""

    vocab_size: int
    mask_id: int
    suppressed: tuple[int, ...]
    window: int
    """Places of text that it sees at once."""


class MaskedLM(nn.Module):
    """A model of transformers as a Denoiser. It is not told the time: such models were trained without."""

    suppress: Tensor
    begin: Tensor
    end: Tensor

    def __init__(self, model: Any, tokenizer: HubTokenizer) -> None:
        """Asks the model for a few tokens, to learn how far its positions reach, and whether places can be left out.

        Raises any exception where it does not give logits for them.
        """
        super().__init__()
        self.model = model
        size, device = len(tokenizer), next(model.parameters()).device
        suppress = torch.zeros(size)
        suppress[list(tokenizer.suppressed)] = -torch.inf
        for name, value in (
            ("suppress", suppress),
            ("begin", torch.tensor(tokenizer.begin, dtype=torch.int64)),
            ("end", torch.tensor(tokenizer.end, dtype=torch.int64)),
        ):
            self.register_buffer(name, value.to(device), persistent=False)
        self._narrow = False
        tokens = torch.full((2, 2), tokenizer.mask_id, device=device)
        where = torch.tensor([[True, False], [True, True]], device=device)
        with torch.inference_mode(), _positions(model, len(self.begin) + 2 + len(self.end)) as reach:
            logits = self._logits(tokens, where)
            if logits.shape != (3, size):
                raise ValueError(f"logits of shape {tuple(logits.shape)} for 3 places and {size} tokens")
            self._narrow = True
            try:
                self._narrow = torch.allclose(self._logits(tokens, where), logits, rtol=1e-3, atol=1e-3)
            except (RuntimeError, IndexError, TypeError, ValueError):
                self._narrow = False
        window = min(reach, default=_positions_of(model.config)) - len(self.begin) - len(self.end)
        if window < 1:
            raise ValueError(f"its special tokens leave {window} places for a text")
        self.shape = Extent(size, tokenizer.mask_id, tokenizer.suppressed, window)

    @property
    def mask_id(self) -> int:
        """The id of the mask."""
        return self.shape.mask_id

    def forward(self, tokens: Tensor, share: Tensor, where: Tensor) -> Tensor:
        """Logits (N, V), float32, at the N places, row by row, where `where` (B, L) is true; L <= window."""
        return self._logits(tokens, where).float() + self.suppress

    def _logits(self, tokens: Tensor, where: Tensor) -> Tensor:
        rows = tokens.size(0)
        framed = torch.cat((self.begin.expand(rows, -1), tokens, self.end.expand(rows, -1)), 1)
        wanted = F.pad(where, (len(self.begin), len(self.end)))
        if not self._narrow:
            logits: Tensor = self.model(input_ids=framed, return_dict=True).logits[wanted]
            return logits

        def leave_out(module: nn.Module, arguments: Any, output: Any) -> Any:
            output[next(iter(output))] = output[0][wanted][None]
            return output

        # The head, much of the work where the vocabulary is large, is handed those places only, as one row.
        hook = self.model.base_model.register_forward_hook(leave_out)
        try:
            return self.model(input_ids=framed, return_dict=True).logits[0]  # type: ignore[no-any-return]
        finally:
            hook.remove()


@contextmanager
def _positions(model: nn.Module, length: int) -> Iterator[list[int]]:
    """How many places each table of positions has room for, as seen in calls with `length` places.

    RoBERTa's begins two rows late, others' do not; the rows that are asked for tell.
    """
    room: list[int] = []

    def note(module: nn.Module, arguments: tuple[Any, ...]) -> None:
        if isinstance(module, nn.Embedding) and arguments and isinstance(arguments[0], Tensor) and arguments[0].ndim:
            rows = arguments[0].reshape(-1, length) if arguments[0].size(-1) == length else None
            if rows is not None and bool((rows == rows[0, 0] + torch.arange(length, device=rows.device)).all()):
                room.append(module.num_embeddings - int(rows[0, 0]))

    tables = (m for name, m in model.named_modules() if isinstance(m, nn.Embedding) and "position" in name)
    hooks = [table.register_forward_pre_hook(note) for table in tables]
    try:
        yield room
    finally:
        for hook in hooks:
            hook.remove()


def _positions_of(config: Any) -> int:
    """Places that a model without a table of positions says it was made for."""
    return int(getattr(config, "max_position_embeddings", None) or _UNSAID)
