"""The numbers of JSON objects and dictionaries."""

import pytest

from tdiff.watch.formats.names import Role, meaning
from tdiff.watch.formats.structured import numbers


def test_a_value_that_another_field_names_may_be_zero():
    assert numbers({"step": 3, "metric": "accuracy", "value": 0.0}, meaning) == {"step": 3, "accuracy": 0.0}


def test_a_name_beside_a_loss_is_not_that_of_a_value():
    record = {"step": 1, "name": "exp1", "loss": 2.1, "val": 1.9}
    assert numbers(record, meaning) == {"step": 1, "loss": 2.1, "val": 1.9}


@pytest.mark.parametrize("name", ["negatives_per_positive", "images per gpu", "samples_per_item", "batches/per_epoch"])
def test_a_number_per_something_is_no_loss(name):
    assert meaning(name).role is not Role.LOSS
    assert meaning("loss per token").role is Role.LOSS
