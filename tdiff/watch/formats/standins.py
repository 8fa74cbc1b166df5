"""Names that stand for the loss where no name of a record is a whole loss: a lone `bpr_loss`, a `total` of terms."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache

from tdiff.watch.formats.names import PART, Meaning, Role, split_of, words


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


STAND_IN = PART - 1
"""The precedence of a name that stands for the loss."""
_TERMS = _words(
    """
    value policy pi vf v q qf actor critic entropy ent kl kld kldiv aux auxiliary reg regularization regularizer
    regularisation l1 l2 wd decay d g dis disc discriminator gen generator adv adversarial gan fm feat feature commit
    commitment vq codebook quantizer balance balancing router load z moe box bbox cls obj dfl rpn roi mask kpt dur
    duration pitch gate stop penalty temperature alpha tv perceptual percep lpips style content cycle identity
    smoothness ortho orthogonality sparsity a b c tf critic1 critic2 target prior post posterior
    """
)
"""Words of a term, which is never the whole of a loss."""
_KNOWN_TERMS = _TERMS | _words(
    """
    energy recon rec reconstruction ce bce mse mae nll ctc att attention mel seg segmentation dice giou focal triplet
    contrastive nce infonce kd distill distillation pde bc ic physics boundary residual residuals sdf eikonal depth rgb
    color colour pose heatmap hm wh off offset offsets smooth center centre id xyz rot trans flow photo chamfer normal
    normals edge rank bpr sup unsup cons consistency mlm nsp itm itc lm ar diff denoise noise spk stft wave hinge huber
    cross supervised unsupervised student teacher ssl cluster proto margin arc ortho latent dyn dynamics inverse
    """
)
"""Words of a term, one of which shows that a total is that of a loss."""
_NO_TERMS = _words(
    """
    acc accuracy top auc f precision recall map iou dice psnr ssim fid inception wer cer bleu rouge ppl perplexity
    reward rewards return returns score scores length len episode episodes time sec secs seconds s ms min minutes hour
    hours h speed throughput fps rate mem memory gpu cpu ram vram alloc used free peak cached reserved util
    temperature temp power samples images tokens frames examples items data count num number n size batch load loading
    forward backward fwd bwd optim optimizer step io wait sync gb mb kb gib mib passed failed skipped best seed params
    correct wrong errors users files lines rows percent done width height depth
    """
)
"""Words of a number that is no term of a sum of losses."""


@lru_cache(1024)
def is_total(name: str) -> bool:
    """Whether a name says `total` and nothing else but a split."""
    rest = [word for word in words(name) if not split_of(word)]
    return rest in (["total"], ["tot"], ["sum"], ["overall"])


@lru_cache(4096)
def is_term(name: str) -> bool:
    """Whether a number of this name may be a term of the loss."""
    spelled = [word for word in words(name) if not split_of(word)]
    return bool(spelled) and not _NO_TERMS & set(spelled) and any(len(word) > 1 for word in spelled)


_STATISTICS = _words("mean avg average max min std var variance values coef rate target loaded")
"""Words of a number that is known of a term, such as the mean of `q`, and is none itself."""


@lru_cache(1024)
def _is_term_beside(name: str) -> bool:
    """Whether a number beside a lone loss is another term of a sum."""
    spelled = set(words(name))
    return bool(_TERMS & spelled) and not _STATISTICS & spelled


@lru_cache(1024)
def _may_be_whole(name: str) -> bool:
    return not _TERMS & set(words(name))


@lru_cache(1024)
def is_bare_term(name: str) -> bool:
    """Whether a name is that of a loss which may be a term of a total, as `ce` beside `dice` is."""
    return not {"loss", "losses", "total", "objective", "cost"} & set(words(name))


def has_loss_term(names: Iterable[str]) -> bool:
    """Whether one of the terms of a total is known as one of a loss, rather than of a time or a memory."""
    return any(_KNOWN_TERMS & set(words(name)) for name in names)


def stand_ins(known: Mapping[str, Meaning], split: str = "") -> Iterable[tuple[str, Meaning]]:
    """The names of a record that stand for a loss of training or of an evaluation, with that meaning.

    `split`: what the whole record is of. Where a total stands for the loss, its terms become terms.

    A term named `loss` does where it is the only one; a `total` does beside two terms or more. A total of seconds, of
    memory, or of rewards is no loss.
    """
    for side in ("eval", "train"):
        of_side = {name: kind for name, kind in known.items() if ((kind.split or split) == "eval") == (side == "eval")}
        assumed = [name for name, kind in of_side.items() if kind.precedence == STAND_IN and is_total(name)]
        losses = [name for name, kind in of_side.items() if kind.role is Role.LOSS and name not in assumed]
        whole = [name for name in losses if of_side[name].precedence < PART]
        if not all(map(is_bare_term, whole)):
            continue
        others = [name for name, kind in of_side.items() if kind.role is Role.OTHER]
        terms = [name for name in others if (is_term(name) or has_loss_term([name])) and not is_total(name)]
        totals = assumed or [name for name in others if is_total(name)]
        summed = len(terms) + len(losses) >= 2 and (bool(losses) or has_loss_term(terms))
        if len(totals) == 1 and summed:
            yield totals[0], Meaning(Role.LOSS, of_side[totals[0]].split, STAND_IN)
            for name in whole:
                yield name, Meaning(Role.LOSS, of_side[name].split, PART)
        elif whole:
            continue
        elif len(losses) == 1 and _may_be_whole(losses[0]) and not any(map(_is_term_beside, others)):
            yield losses[0], Meaning(Role.LOSS, of_side[losses[0]].split, STAND_IN)


def terms_named_value(known: Mapping[str, Meaning]) -> Iterable[str]:
    """Names such as `loss/value` beside `loss/policy`: a term of reinforcement learning, not the value of the loss."""
    for name, kind in known.items():
        if kind.role is Role.LOSS and kind.precedence < PART and name.lower().endswith(("/value", ".value")):
            group = name[: -len("value")]
            if any(other != name and other.startswith(group) for other in known):
                yield name
