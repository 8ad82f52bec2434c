"""The whole deployment of the hub on one page. Every setting: docs/reference/settings.md."""

from hub_config.configure import configure
from hub_config.settings import load_settings

configure(get_config(), load_settings())  # noqa: F821 (JupyterHub's loader provides it)
