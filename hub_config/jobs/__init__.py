"""Runs: a notebook at a commit with parameters, run once, kept for good."""
