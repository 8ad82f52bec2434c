"""Every relative link of the documents leads to a file; every command of the CLI is documented."""

import re
import subprocess
from pathlib import Path

import pytest

from hub_config.cli import app

ROOT = Path(__file__).parents[2]
TRACKED = subprocess.run(
    ["git", "ls-files", "-co", "--exclude-standard", "*.md"],
    cwd=ROOT,
    capture_output=True,
    text=True,
).stdout.split()


@pytest.mark.parametrize("page", TRACKED)
def test_links_lead_somewhere(page):
    path = ROOT / page
    for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", path.read_text()):
        if not re.match(r"[a-z]+:", target):
            assert (path.parent / target).exists(), f"{page} → {target}"


def test_every_command_and_option_is_in_the_reference():
    import typer.main

    text = (ROOT / "docs" / "reference" / "cli.md").read_text()

    def walk(command, prefix):
        for name, sub in getattr(command, "commands", {}).items():
            yield from walk(sub, f"{prefix} {name}")
        if not getattr(command, "commands", None):
            yield prefix, command

    for name, command in walk(typer.main.get_command(app), "cuaderno"):
        assert f"### `{name}`" in text, name
        section = text.split(f"### `{name}`", 1)[1].split("\n### ", 1)[0]
        for parameter in command.params:
            for option in parameter.opts:
                if option.startswith("--") and option not in ("--help",):
                    assert f"`{option}" in section, (name, option)
