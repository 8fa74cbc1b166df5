"""Runs on another machine: copy data there, install this version, start, submit, and bring a run back. No torch."""
