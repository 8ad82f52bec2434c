"""docs/reference/settings.md names every key, its variable and its default, and nothing else."""

import re
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import get_type_hints

from hub_config.settings import Settings, load_settings

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "settings.md"


def keys_in_code():
    found = {}
    plain = load_settings({}, data_dir=Path("/nowhere"))
    for name, kind in get_type_hints(Settings).items():
        if is_dataclass(kind):
            for key in fields(kind):
                value = getattr(getattr(plain, name), key.name)
                found[f"{name}.{key.name}"] = (f"CUADERNO_{name}_{key.name}".upper(), value)
        else:
            found[name] = (f"CUADERNO_{name}".upper(), getattr(plain, name))
    return found


def test_every_key_is_documented_with_its_variable_and_default():
    rows = {
        m[1]: (m[2], m[3].strip())
        for m in re.finditer(r"^\| `([a-z_.]+)` \| `(\w+)` \| ([^|]+) \|", PAGE.read_text(), re.M)
    }
    code = keys_in_code()
    assert set(rows) == set(code)
    for key, (variable, default) in code.items():
        assert rows[key][0] == variable
        if key == "data_dir":
            continue
        if default == "":
            assert rows[key][1].startswith("empty"), key
        else:
            assert rows[key][1] == f"`{str(default).lower()}`", key
