"""The engine: schedules, models, decoders, training. It knows torch and no screen."""

from tdiff.openmp import set_defaults

set_defaults()  # before any module here imports torch
