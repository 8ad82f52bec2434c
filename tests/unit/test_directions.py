"""The directions between rooms, as docs/architecture.md draws them."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "hub_config"
LEAVES = {"settings", "errors", "keys", "identity", "oauth", "storage", "node"}
FEATURES = {"accounts", "spawning", "projects", "jobs", "tracking", "dashboards"}
WIRING = {"configure", "web", "cli", "up", "startup", "supervisor", "programs"}
# Modules of a feature that may speak HTTP: routes, processes' applications and entry points.
HTTP_FRAMEWORKS = {"fastapi", "starlette", "tornado", "flask"}


def imports(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def rooms(path: Path) -> set[str]:
    """The rooms of hub_config that a module imports from."""
    return {
        name.split(".")[1]
        for name in imports(path)
        if name.startswith("hub_config.") and name.count(".") >= 1
    }


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


MODULES = [p for p in PACKAGE.rglob("*.py") if "migrations" not in p.parts]


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_a_room_imports_only_what_lies_below_it(path):
    room, seen = room_of(path), rooms(path)
    if room in LEAVES:
        assert not seen - LEAVES - {room}
    elif room in FEATURES:
        assert not seen - LEAVES - {room}, "a feature imports no other feature and no wiring"
    elif room != "web" and "web" in seen:
        pytest.fail("nobody imports web")
    if room not in ("configure",) and "configure" in seen:
        pytest.fail("nobody imports configure but jupyterhub_config.py")


@pytest.mark.parametrize("room", sorted(FEATURES))
def test_domain_modules_know_no_http_framework(room):
    speaks_http = {
        path.name
        for path in (PACKAGE / room).glob("*.py")
        if {name.split(".")[0] for name in imports(path)} & HTTP_FRAMEWORKS
    }
    domain = {"store.py", "model.py", "domain.py", "projects.py", "members.py", "catalogue.py"}
    domain |= {"parameters.py", "dispatcher.py", "runner.py", "submission.py", "permissions.py"}
    assert not speaks_http & domain


def test_kernels_and_notebooks_never_import_the_platform():
    for path in (ROOT / "kernels").rglob("*.py"):
        assert not any(n.split(".")[0] == "hub_config" for n in imports(path)), path
