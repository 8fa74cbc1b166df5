"""Fixtures that the tests of several commands share."""

from tests.support.classifying import ask as ask
from tests.support.classifying import model as model
