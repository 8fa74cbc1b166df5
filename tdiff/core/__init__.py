"""The engine: schedules, models, decoders, training. It knows torch and no screen."""
