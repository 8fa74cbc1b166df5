"""Indices of masks, counted once."""

import pytest
import torch

from tdiff.core import mask_indices as module
from tdiff.core.mask_indices import indices_of, select, send


@pytest.mark.parametrize("seed", range(20))
def test_the_indices_are_those_of_nonzero_whether_the_count_is_known_or_not(seed):
    draw = torch.Generator().manual_seed(seed)
    mask = torch.rand(3, 7, generator=draw) < torch.rand((), generator=draw)
    expected = mask.flatten().nonzero()[:, 0]
    assert indices_of(mask.clone()).equal(expected)
    assert module._counted(mask.flatten(), int(mask.sum())).equal(expected)
    x = torch.rand(3, 7, 2, generator=draw)
    assert select(x, mask).equal(x[mask])


def test_a_mask_is_counted_once():
    mask = torch.tensor([True, False, True])
    assert indices_of(mask) is indices_of(mask)


def test_send_returns_the_same_tensor_on_the_cpu():
    x = torch.ones(3)
    assert send(x, "cpu") is x


def test_indices_that_were_made_without_gradients_do_not_hinder_them():
    mask, x = torch.tensor([True, False, True]), torch.ones(3, requires_grad=True)
    with torch.inference_mode():
        indices_of(mask)
    select(x, mask).sum().backward()
    assert x.grad.tolist() == [1, 0, 1]
