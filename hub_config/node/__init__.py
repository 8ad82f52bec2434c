"""This machine's facts and hands."""
