"""Dashboards: a project's notebooks under `dashboards/`, shown by Voila to its members."""
