"""Run folders, the index of a user's runs, and the lookup of models and configurations by name. No torch."""
