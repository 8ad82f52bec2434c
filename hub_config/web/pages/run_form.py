"""The form that runs a notebook as a job: its parameters as fields, and what would be run."""

from __future__ import annotations

import secrets
from contextlib import suppress
from typing import Any

from fastapi import APIRouter, Request
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import FormData
from starlette.responses import Response

from hub_config.errors import CuadernoError, Invalid
from hub_config.identity import Role
from hub_config.jobs.parameters import Parameter, validate
from hub_config.jobs.routes import runs_of
from hub_config.projects.routes import documents
from hub_config.web.notebooks import Notebook, notebook
from hub_config.web.pages.common import person, render, see
from hub_config.web.texts import text
from hub_config.web.view import value

router = APIRouter()


@router.get("/projects/{project}/run/{path:path}")
def form_page(request: Request, project: str, path: str) -> Response:
    """The form, with the values of the run `?from=` where there is one."""
    request.app.state.identity.require(person(request), project, Role.EDITOR)
    found = notebook(request, project, path)
    given = {p.name: _default(p) for p in found.parameters}
    if earlier := request.query_params.get("from"):
        run = runs_of(request).find(person(request), earlier)
        if run.project == project:
            given |= {k: value(v) for k, v in run.parameters.items() if k in given}
    return _form(request, project, found, given)


@router.post("/projects/{project}/run/{path:path}")
async def run_notebook(request: Request, project: str, path: str) -> Response:
    form = await request.form()
    return await run_in_threadpool(_run_notebook, request, project, path, form)


def _run_notebook(request: Request, project: str, path: str, form: FormData) -> Response:
    me = person(request)
    request.app.state.identity.require(me, project, Role.EDITOR)
    found = notebook(request, project, path)
    given = {p.name: str(form.get(f"p.{p.name}", _default(p))) for p in found.parameters}
    message = str(form.get("message", "")).strip()
    if form.get("action") == "commit":
        said = message or text("form.message.default", notebook=path)
        try:
            with suppress(Invalid):  # nothing to commit: meanwhile somebody else did
                documents(request, project, Role.EDITOR).commit([path], said, me)
        except CuadernoError as error:
            return _form(request, project, found, given, error=error, message=message)
        committed = notebook(request, project, path)
        # What is committed now may declare other parameters than the form showed: show it again.
        if [p.name for p in committed.parameters] != [p.name for p in found.parameters]:
            known = {p.name: given.get(p.name, _default(p)) for p in committed.parameters}
            return _form(request, project, committed, known)
        found = committed
    values, errors = check(found.parameters, given)
    if errors:
        return _form(request, project, found, given, errors=errors, message=message)
    try:
        run = runs_of(request).submit(
            me,
            project=project,
            notebook=path,
            parameters=values,
            commit=found.standing.head,
            key=str(form.get("key") or "")[:100] or None,
            origin="portal",
        )
    except CuadernoError as error:
        if name := error.extra.get("parameter"):
            errors = {name: error.detail}
        return _form(request, project, found, given, errors=errors, error=error, message=message)
    return see(request, f"runs/{run.id}")


def check(
    parameters: list[Parameter], given: dict[str, str]
) -> tuple[dict[str, Any], dict[str, str]]:
    """What the fields say, as values; and what is wrong, by the parameter's name.

    An empty field means None where that may be, and nothing where the notebook computes a value.
    """
    values: dict[str, Any] = {}
    errors: dict[str, str] = {}
    for parameter in parameters:
        typed = given[parameter.name]
        if not typed.strip() and (parameter.computed or parameter.nullable):
            if not parameter.computed:
                values[parameter.name] = None
            continue
        try:
            values |= validate([parameter], {parameter.name: typed})
        except Invalid as error:
            errors[parameter.name] = error.detail
    return values, errors


def _default(parameter: Parameter) -> str:
    """What a field shows first: the default, or nothing where the notebook computes it."""
    if parameter.computed or parameter.default is None:
        return ""
    return value(parameter.default)


def _form(
    request: Request,
    project: str,
    found: Notebook,
    given: dict[str, str],
    *,
    errors: dict[str, str] | None = None,
    error: CuadernoError | None = None,
    message: str = "",
) -> Response:
    differs = found.standing.differs if found.standing.head else "new"
    return render(
        request,
        "run_form.html",
        section="jobs",
        status=error.status if error else 422 if errors else 200,
        project=project,
        notebook=found,
        differs=differs,
        given=given,
        errors=errors or {},
        error=error.detail if error and not errors else None,
        message=message or text("form.message.default", notebook=found.path),
        key=secrets.token_hex(16),
    )
