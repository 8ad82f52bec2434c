"""Each claim of speed or size, measured beside its peer in one run. See README.md."""
