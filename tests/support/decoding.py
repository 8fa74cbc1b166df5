"""What the tests of decoders share: random settings, and texts of models that are tables."""

import math
import random

import pytest
import torch

from tdiff.config import decoding as config
from tdiff.config.decoding import DecodeSettings
from tdiff.core.diffusion.blocks import in_blocks
from tdiff.core.diffusion.decoders import DECODERS
from tests.support.oracles import TableDenoiser

EVERY = pytest.mark.parametrize("name", sorted(DECODERS))


# The value that a chi-square of so many degrees of freedom passes once in 10,000 times.
CHI_SQUARE = {1: 15.14, 2: 18.42, 3: 21.11, 4: 23.51, 5: 25.74, 6: 27.86, 7: 29.88}


def random_settings(name: str, draw: random.Random) -> DecodeSettings:
    # 0 steps is the default: 128 for ancestral, so it comes up there less often.
    steps = 0 if draw.random() < (0.015 if name in ("ancestral", "remdm") else 0.3) else draw.randint(1, 6)
    remask = draw.choice(config.REMASKS)
    return DecodeSettings(
        decoder=name,
        threshold=draw.choice([0.0, 0.3, 0.5, 0.7, 0.9, 1.0]),
        k=draw.randint(0, 5),
        parts=draw.randint(1, 5),
        factor=draw.choice([0.0, 0.5, 1.0, 3.0]),
        gamma=draw.choice([0.0, 0.1, 1.0, 5.0]),
        rank=draw.choice(config.RANKS[:3]),  # of few tokens the top k have all the mass, and rounding would decide
        kl=draw.choice([0.0, 0.01, 1.0, 10.0]),
        history=draw.randint(1, 3),
        remask=remask,
        eta=draw.choice([0.0, 0.1, 0.5, 1.0]),
        t_on=draw.choice([0.3, 0.55, 0.8]),
        t_off=draw.choice([0.0, 0.05, 0.2]),
        alpha_on=draw.choice([0.2, 0.5, 0.9]),
        block=draw.choice([0, 0, 1, 4, 30]),
        repetition_penalty=draw.choice([1.0, 1.0, 1.5, 4.0]),
        repetition_span=draw.randint(1, 3),
        no_repeat=draw.choice([0, 0, 0, 1, 2, 3, 5]),
        steps=steps,
        schedule=draw.choice(config.SCHEDULES),
        temperature=draw.choice([0.0, 0.3, 1.0, 2.5]),
        top_k=draw.choice([0, 0, 1, 2, 3, 20]),
        top_p=draw.choice([1.0, 1.0, 0.0, 0.3, 0.9]),
        seed=draw.randint(0, 2**40),
    )


def every_place_alike(length: int, *logits: float) -> TableDenoiser:
    denoiser = TableDenoiser(len(logits) + 1, length, 0, seed=0, contextual=False)
    denoiser.tables = torch.tensor([-math.inf, *logits]).expand(1, length, -1).contiguous()
    return denoiser


def texts(denoiser: TableDenoiser, settings: DecodeSettings, rows: int = 40, length: int = 12) -> list[list[int]]:
    *_, last = in_blocks(denoiser, torch.zeros(rows, length, dtype=torch.int64), settings=settings)
    return last.tokens.tolist()
