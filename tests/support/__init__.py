"""Helpers of several tests: stages, oracles, servers, terminals."""
