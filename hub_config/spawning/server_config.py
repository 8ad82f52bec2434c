"""The configuration of Lab servers, written anew at each start of the platform."""

from __future__ import annotations

from pathlib import Path

from hub_config.settings import Settings

SOURCE = Path(__file__).parent / "lab"
FILES = (
    "jupyter_server_config.py",
    "labconfig/page_config.json",
    "labconfig/default_setting_overrides.json",
)


def write_server_config(settings: Settings) -> Path:
    """Write the configuration into the data folder; the folder, for `JUPYTER_CONFIG_PATH`.

    A server may be starting meanwhile, so each file is replaced whole.
    """
    folder = settings.jupyter_dir / "config"
    for name in FILES:
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.new")
        temporary.write_bytes((SOURCE / name).read_bytes())
        temporary.replace(target)
    return folder
