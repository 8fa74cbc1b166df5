"""The worked examples of the guide's page on decoders: what is written there is what the engine does."""

import re
import shlex
import typing

import pytest
import torch

from tdiff import guide
from tdiff.config.decoding import DECODERS, DecodeSettings
from tdiff.core.diffusion import noise
from tdiff.core.diffusion.blocks import in_blocks
from tests.support.models import StubModel

PAGE = guide.pages()["decoders"]
EXAMPLES = re.findall(r"```text\n(.+)\n(.+)\n```", PAGE)
TOKENS = 10


def table(name: str) -> list[float]:
    """The numbers of a row of the page's tables."""
    row = re.search(rf"^\| {re.escape(name)} \|(.*)\|$", PAGE, re.M)
    assert row, name
    return [float(cell) for cell in row[1].split("|")]


def probabilities() -> torch.Tensor:
    """(8, 10) float64: p1, p2, and the rest shared out evenly."""
    p1, p2 = (torch.tensor(table(name), dtype=torch.float64) for name in ("p1", "p2"))
    rest = ((1 - p1 - p2) / (TOKENS - 2))[:, None].repeat(1, TOKENS)
    rest[:, 0], rest[:, 1] = p1, p2
    return rest


class Page(StubModel):
    """A denoiser that says what the page says, whatever it sees."""

    mask_id = TOKENS

    def __call__(self, tokens, share, where):
        logits = torch.full((*tokens.shape, TOKENS + 1), -torch.inf)
        logits[..., :TOKENS] = probabilities().log().float()
        return logits[where]


def worked(command: str) -> str:
    name, *words = shlex.split(command)
    hints = typing.get_type_hints(DecodeSettings)
    options = {}
    for flag, value in zip(words[::2], words[1::2], strict=True):
        key = flag.removeprefix("--").replace("-", "_")
        options[key] = hints[key](value) if hints[key] in (int, float) else value
    settings = DecodeSettings(decoder=name, temperature=0.0, seed=1, **options)
    changes = []
    for step in in_blocks(Page(), torch.full((1, 8), TOKENS), settings=settings):
        positions = [f"{i + 1}" for i in step.committed[0].nonzero()[:, 0].tolist()]
        positions += [f"-{i + 1}" for i in step.remasked[0].nonzero()[:, 0].tolist()]
        changes.append(" ".join(positions) or ".")
    return " | ".join(changes)


@pytest.mark.parametrize(("command", "steps"), EXAMPLES, ids=[command for command, _ in EXAMPLES])
def test_worked_example_of_the_guide_matches_the_decoder(command, steps):
    assert worked(command) == steps


def test_every_decoder_has_an_example():
    assert {command.split()[0] for command, _ in EXAMPLES} == set(DECODERS)


def test_the_numbers_of_the_tables_are_right():
    p = probabilities()
    torch.testing.assert_close(torch.tensor(table("p1 - p2")).double(), p[:, 0] - p[:, 1], atol=0.005, rtol=0)
    torch.testing.assert_close(torch.tensor(table("H")).double(), -(p * p.log()).sum(-1), atol=0.0051, rtol=0)
    for name, step in (("step 1", 1), ("step 2", 2), ("step 3", 3), ("once for all", 0)):
        found = noise.uniform(1, step, noise.ORDER, torch.tensor([0]), torch.arange(8))
        torch.testing.assert_close(torch.tensor(table(name)).double(), found, atol=0.0051, rtol=0)
