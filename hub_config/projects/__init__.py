"""Projects: their members, their shared server and hub group, their notebooks and commits."""
