"""The first project, `demo`: made once, when there is no project at all.

Its repository starts with the distribution's training notebooks and dashboards, so that a newcomer
has something real to open, run and look at.
"""

from __future__ import annotations

import logging
import shutil
import time
from pathlib import Path

from sqlalchemy import Engine

from hub_config.identity import Role
from hub_config.projects import store
from hub_config.projects.projects import prepare_repository
from hub_config.projects.store import Member, Project
from hub_config.settings import Settings
from hub_config.storage.database import write
from hub_config.storage.repository import project_repository

log = logging.getLogger(__name__)
DEMO = "demo"
TITLE = "Demo: breast cancer classifier"
DISTRIBUTION = Path(__file__).parents[2]
FOLDERS = ("notebooks", "dashboards")


def seed(engine: Engine, settings: Settings) -> bool:
    """Make the project `demo` if it is wanted and there is no project; whether `demo` is there.

    A start that was interrupted half-way is finished by the next one.
    """
    if not settings.demo.enabled:
        return False
    now, maker = time.time(), "cuaderno"
    with write(engine) as connection:
        if not store.any_project(connection):
            store.insert_project(connection, Project(DEMO, TITLE, now, maker))
            owner = Member(DEMO, settings.hub.admin, Role.OWNER, now, maker)
            store.put_member(connection, owner)
    demo = store.list_projects(engine, [DEMO])
    if not demo or demo[0].created_by != maker:
        return False
    if not project_repository(settings.projects_dir, DEMO).head():
        _fill(settings, demo[0])
    return True


def _fill(settings: Settings, project: Project) -> None:
    repository = project_repository(settings.projects_dir, project.name)
    repository.create()
    ignored = shutil.ignore_patterns(".ipynb_checkpoints", "__pycache__", ".*")
    for folder in FOLDERS:
        source = DISTRIBUTION / folder
        if source.is_dir():
            shutil.copytree(source, repository.path / folder, ignore=ignored, dirs_exist_ok=True)
        else:
            log.warning("The distribution has no folder %s to begin the demo with.", folder)
    present = [folder for folder in FOLDERS if any((repository.path / folder).glob("*"))]
    prepare_repository(settings, project, *present)
