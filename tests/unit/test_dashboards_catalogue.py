"""What a project's dashboards are called, and where their commits lie on disk."""

import json
import os
import time
from dataclasses import replace

import pytest

from hub_config.dashboards import catalogue, trees
from hub_config.dashboards.catalogue import describe, find, list_dashboards, published
from hub_config.errors import NotFound
from hub_config.identity import Principal, Role
from hub_config.settings import HubSettings, Settings
from hub_config.storage.repository import project_repository


def notebook(*markdown: str, **metadata: str) -> bytes:
    cells = [{"cell_type": "markdown", "metadata": {}, "source": text} for text in markdown]
    document = {"cells": cells, "metadata": {"cuaderno": metadata}, "nbformat": 4}
    return json.dumps(document).encode()


@pytest.mark.parametrize(
    ("source", "title", "description"),
    [
        (notebook("# Runs\n\nHow they *went*, see [here](x)."), "Runs", "How they went, see here."),
        (notebook("# Runs\nOne\nparagraph\n\nAnother"), "Runs", "One paragraph"),
        (notebook("![](logo.png)", "## Late"), "Late", ""),
        (notebook("# Runs\n\nText", title="Chosen", description="Told"), "Chosen", "Told"),
        (notebook(), "Weekly report", ""),
        (b"{", "Weekly report", "This file is not a notebook that can be read."),
        (b"[]", "Weekly report", "This file is not a notebook that can be read."),
    ],
)
def test_title_and_description(source, title, description):
    assert describe(source, "weekly_report") == (title, description)


@pytest.fixture
def settings(tmp_path):
    return Settings(data_dir=tmp_path)


@pytest.fixture
def repository(settings):
    made = project_repository(settings.projects_dir, "demo")
    made.create()
    for path, data in {
        "dashboards/runs.ipynb": notebook("# Runs"),
        "dashboards/a b.ipynb": notebook("# Äpfel & <b>"),
        "dashboards/parts/helper.ipynb": notebook("# Helper"),
        "dashboards/helper.py": b"answer = 42",
        "notebooks/train.ipynb": notebook("# Train"),
    }.items():
        file = made.path / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    (made.path / "outside").symlink_to("/etc/passwd")
    made.commit(["dashboards", "notebooks", "outside"], "first")
    return made


def test_only_committed_notebooks_directly_under_the_folder_are_dashboards(settings, repository):
    (repository.path / "dashboards" / "draft.ipynb").write_bytes(notebook("# Draft"))
    found = {d.name: d for d in published(settings, "demo")}
    assert set(found) == {"runs", "a b"}
    assert found["a b"].url == "/services/dashboards/demo/a%20b"
    assert found["runs"].commit == repository.head()
    assert abs(found["runs"].updated_at - time.time()) < 60
    with pytest.raises(NotFound, match="draft"):
        find(settings, "demo", "draft")
    assert published(settings, "nothing-there") == []


def test_with_subdomains_a_dashboard_lives_on_its_own_origin(settings, repository):
    hub = HubSettings(subdomain_host="http://cuaderno.localhost:8000")
    url = find(replace(settings, hub=hub), "demo", "runs").url
    assert url == (
        "http://dashboards--service.cuaderno.localhost:8000/services/dashboards/demo/runs"
    )


def test_the_host_of_a_service_is_the_one_that_the_hub_gives_it():
    from jupyterhub.utils import subdomain_hook_idna

    settings = Settings(
        data_dir="/x", hub=HubSettings(subdomain_host="https://cuaderno.example.org")
    )
    for name in ("cuaderno", "mlflow", "dashboards"):
        expected = subdomain_hook_idna(name, "cuaderno.example.org", "service")
        assert settings.service_origin(name) == f"https://{expected}"


class MemberOf:
    def __init__(self, *projects: str) -> None:
        self._projects = projects

    def projects(self, principal: Principal) -> dict[str, Role]:
        return dict.fromkeys(self._projects, Role.VIEWER)


def test_one_sees_the_dashboards_of_ones_own_projects(settings, repository):
    ana = Principal("person", "ana")
    assert [d.title for d in list_dashboards(settings, MemberOf("demo"), ana)] == [
        "Runs",
        "Äpfel & <b>",
    ]
    assert list_dashboards(settings, MemberOf(), ana) == []
    with pytest.raises(NotFound):
        list_dashboards(settings, MemberOf("other"), ana, project="demo")


def test_a_commit_lies_on_disk_whole_read_only_and_without_ways_out(settings, repository):
    commit = repository.head()
    tree = trees.checkout(settings, "demo", commit)
    assert tree == settings.data_dir / "dashboards" / "demo" / commit
    assert (tree / "dashboards" / "helper.py").read_text() == "answer = 42"
    assert not (tree / "outside").is_symlink()
    modes = {p.stat().st_mode & 0o222 for p in [tree, *tree.rglob("*")]}
    assert modes == {0}
    assert trees.checkout(settings, "demo", commit) == tree
    assert not list(tree.parent.glob(".part-*"))


def test_trees_that_nobody_used_for_an_hour_go_but_not_those_in_use(settings, repository):
    commit = repository.head()
    tree = trees.checkout(settings, "demo", commit)
    trees.home(settings, "demo")
    assert trees.prune(settings, []) == 0
    old = time.time() - trees.KEEP_SECONDS - 1
    os.utime(tree, (old, old))
    assert trees.prune(settings, [("demo", commit)]) == 0
    assert trees.prune(settings, []) == 1
    assert not tree.exists() and trees.home(settings, "demo").is_dir()


def test_the_catalogue_is_a_page_of_the_api(settings, repository):
    from fastapi import FastAPI, Request
    from fastapi.testclient import TestClient

    from hub_config.dashboards.routes import router

    app = FastAPI()
    app.state.settings, app.state.identity = settings, MemberOf("demo")

    @app.middleware("http")
    async def sign_in(request: Request, follow):
        request.state.principal = Principal("person", "ana")
        return await follow(request)

    app.include_router(router)
    answer = TestClient(app).get("/dashboards").json()
    assert (answer["total"], answer["next"]) == (2, None)
    assert {"title", "description", "url", "commit", "project"} <= set(answer["items"][0])


def test_the_cache_follows_new_commits(settings, repository):
    (repository.path / "dashboards" / "runs.ipynb").write_bytes(notebook("# New title"))
    repository.commit(["dashboards/runs.ipynb"], "second")
    assert catalogue.find(settings, "demo", "runs").title == "New title"
