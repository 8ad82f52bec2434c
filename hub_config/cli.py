"""The command `cuaderno`: starts the platform, and speaks HTTP to a running one.

Exit status: 0 done, 1 refused or failed (one line on stderr says why), 2 wrong usage.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote
from uuid import uuid4

import typer

from hub_config.errors import CuadernoError, Invalid, Unavailable
from hub_config.remote import FINISHED, Remote, local_settings
from hub_config.text import ago, duration, mebibytes, table

app = typer.Typer(
    help="Cuaderno: the notebook platform that a data team runs itself.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
config_app = typer.Typer(help="The settings.", no_args_is_help=True)
project_app = typer.Typer(help="Projects and their members.", no_args_is_help=True)
app.add_typer(config_app, name="config")
app.add_typer(project_app, name="project")

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Project = Annotated[str | None, typer.Option("--project", help="The project's name.")]
DataDir = Annotated[Path | None, typer.Option(help="The folder of everything that changes.")]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="A cuaderno.toml.")]


def main() -> None:
    """Entry point: run a command; an error that a person may see becomes one line."""
    try:
        app(join_parameters(sys.argv[1:]))
    except CuadernoError as error:
        typer.echo(f"cuaderno: {error.detail}", err=True)
        sys.exit(1)
    except BrokenPipeError:
        sys.exit(1)


def join_parameters(argv: list[str]) -> list[str]:
    """`-p name value` as `-p name=value`, which is what the option parser takes."""
    result, rest = [], list(argv)
    while rest:
        word = rest.pop(0)
        result.append(word)
        if word in ("-p", "--parameter") and rest:
            name = rest.pop(0)
            if "=" not in name and rest:
                name = f"{name}={rest.pop(0)}"
            result.append(name)
        elif word == "--":
            result += rest
            break
    return result


# The platform -------------------------------------------------------------------------------------


@app.command()
def up(
    port: Annotated[int | None, typer.Option(help="The public port.")] = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Start the platform and keep it running until Ctrl-C or SIGTERM."""
    from hub_config.settings import load_settings
    from hub_config.up import start

    sys.exit(start(load_settings(config=config, data_dir=data_dir, port=port)))


@app.command()
def status(as_json: AsJson = False) -> None:
    """Show each process of the platform: state, since when, memory, address."""
    note = ""
    try:
        rows = Remote().api("GET", "processes")["items"]
    except Unavailable as error:
        # The portal is what does not answer: on this machine the supervisor's own file still tells.
        path = local_settings().run_dir / "processes.json"
        if not path.is_file():
            raise
        rows, note = json.loads(path.read_text()), f"{error.detail} Last written by the supervisor:"
    if as_json:
        return _print_json(rows)
    if note:
        typer.echo(note, err=True)
    lines = [
        [
            row["name"],
            row["state"],
            ago(row["since"]),
            mebibytes(row["memory_bytes"]),
            str(row["restarts"]),
            row["address"],
        ]
        for row in rows
    ]
    typer.echo(table(["PROCESS", "STATE", "SINCE", "MEMORY", "RESTARTS", "ADDRESS"], lines))
    total = sum(row["memory_bytes"] for row in rows)
    typer.echo(
        f"{len(rows)} processes, {mebibytes(total)} (proportional; user servers not counted)"
    )
    if any(row["state"] != "running" for row in rows):
        raise typer.Exit(1)


@config_app.command("show")
def config_show(
    as_json: AsJson = False, config: ConfigFile = None, data_dir: DataDir = None
) -> None:
    """Show the settings as they would be used, passwords hidden."""
    import tomllib

    from hub_config.settings import dump_settings, load_settings

    text = dump_settings(load_settings(config=config, data_dir=data_dir), mask=True)
    _print_json(tomllib.loads(text)) if as_json else typer.echo(text, nl=False)


@app.command()
def token(
    user: Annotated[str, typer.Argument(help="Whose token.")],
    days: Annotated[int, typer.Option(help="How long it is valid.", min=1)] = 90,
    as_json: AsJson = False,
) -> None:
    """Make a token with which USER can speak to the platform (CUADERNO_TOKEN)."""
    remote = Remote()
    accounts = {a["name"]: a for a in remote.api("GET", "accounts")["items"]}
    if accounts.get(user, {}).get("state") != "active":
        raise Invalid(f"There is no active account {user!r}; see the accounts on the Admin page.")
    try:
        remote.hub("GET", f"users/{quote(user)}")
    except CuadernoError as error:
        if error.status != 404:
            raise
        remote.hub("POST", f"users/{quote(user)}")
    scopes = [f"access:services!service={s}" for s in ("cuaderno", "mlflow", "dashboards")]
    made = remote.hub(
        "POST",
        f"users/{quote(user)}/tokens",
        json={"note": "cuaderno token", "expires_in": days * 86400, "scopes": scopes},
    )
    if as_json:
        return _print_json({"token": made["token"], "expires_at": made["expires_at"]})
    typer.echo(made["token"])


# Projects -----------------------------------------------------------------------------------------


@project_app.command("create")
def project_create(
    name: Annotated[str, typer.Argument(help="Lower-case letters, digits and hyphens.")],
    title: Annotated[str | None, typer.Option(help="What people read.")] = None,
    owner: Annotated[
        str | None, typer.Option(help="Its first owner; else the administrator.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Make a project: its repository, its shared server, its first owner."""
    body = {"name": name, "title": title or name, "owner": owner}
    made = Remote().api("POST", "projects", json={k: v for k, v in body.items() if v is not None})
    _print_json(made) if as_json else typer.echo(f"Project {made['name']} is made.")


@project_app.command("add")
def project_add(
    project: str,
    person: str,
    role: Annotated[str, typer.Option(help="viewer, editor or owner.")] = "editor",
    as_json: AsJson = False,
) -> None:
    """Make PERSON a member of PROJECT, or change the role."""
    path = f"projects/{quote(project)}/members/{quote(person)}"
    made = Remote().api("PUT", path, json={"role": role})
    _print_json(made) if as_json else typer.echo(f"{person} is {role} of {project}.")


@project_app.command("list")
def project_list(as_json: AsJson = False) -> None:
    """Show the projects that you can see."""
    items = Remote().api("GET", "projects")["items"]
    if as_json:
        return _print_json(items)
    if not items:
        typer.echo("No project yet. Make one: cuaderno project create NAME")
        return
    typer.echo(
        table(["PROJECT", "TITLE", "ROLE"], [[p["name"], p["title"], p["role"]] for p in items])
    )


# Runs ---------------------------------------------------------------------------------------------


@app.command()
def run(
    notebook: Annotated[str, typer.Argument(help="Its path in the project's repository.")],
    parameters: Annotated[
        list[str] | None,
        typer.Option(
            "-p", "--parameter", metavar="NAME VALUE", help="A parameter; may be repeated."
        ),
    ] = None,
    project: Project = None,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for the end; exit 1 if it fails.")
    ] = False,
    commit: Annotated[
        bool, typer.Option("--commit", help="Commit the notebook first where it differs from HEAD.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Run NOTEBOOK at its project's HEAD as a job."""
    remote = Remote()
    project = project or _only_project(remote)
    values = _parse_parameters(parameters or [])
    here = f"projects/{quote(project)}"
    found = remote.api("GET", f"{here}/notebooks/{quote(notebook)}")
    if found.get("note"):
        typer.echo(f"cuaderno: {found['note']}", err=True)
    if found.get("differs"):
        _offer_commit(remote, here, notebook, found["differs"], commit)
    made = remote.api(
        "POST",
        "runs",
        json={"project": project, "notebook": notebook, "parameters": values, "origin": "cli"},
        headers={"Idempotency-Key": uuid4().hex},
    )
    if not wait:
        if as_json:
            return _print_json(made)
        typer.echo(f"{made['id']} {made['state']}\n{remote.run_address(made['id'])}")
        return
    typer.echo(remote.run_address(made["id"]), err=True)
    done = _wait(remote, made["id"])
    _print_run(remote, done, as_json)
    if done["state"] != "succeeded":
        raise typer.Exit(1)


@app.command()
def runs(
    project: Project = None,
    state: Annotated[str | None, typer.Option(help="Only runs in this state.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000)] = 20,
    as_json: AsJson = False,
) -> None:
    """Show runs, newest first."""
    items, total = Remote().pages("runs", limit, project=project, state=state)
    if as_json:
        return _print_json(items)
    if not items:
        typer.echo("No runs. Start one: cuaderno run notebooks/train_classifier.ipynb")
        return
    lines = [
        [r["id"], r["project"], r["notebook"], r["state"], ago(r["created_at"]), r["submitted_by"]]
        for r in items
    ]
    typer.echo(table(["RUN", "PROJECT", "NOTEBOOK", "STATE", "SUBMITTED", "BY"], lines))
    if total > len(items):
        typer.echo(f"{len(items)} of {total}")


@app.command()
def show(run: str, as_json: AsJson = False) -> None:
    """Show one run: its input, its state and why, its metrics."""
    remote = Remote()
    _print_run(remote, remote.api("GET", f"runs/{quote(run)}"), as_json)


@app.command()
def logs(
    run: str,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until it ends.")] = False,
    as_json: AsJson = False,
) -> None:
    """Print a run's log."""
    remote, after = Remote(), 0
    while True:
        ended = remote.api("GET", f"runs/{quote(run)}")["state"] in FINISHED
        for number, text in remote.log(quote(run), after):
            typer.echo(json.dumps({"id": number, "text": text}) if as_json else text, nl=as_json)
            after = number
        if ended or not follow:
            return
        time.sleep(0.5)


@app.command()
def cancel(run: str, as_json: AsJson = False) -> None:
    """Cancel a run; its whole process tree ends."""
    made = Remote().api("POST", f"runs/{quote(run)}/cancel")
    _print_json(made) if as_json else typer.echo(f"{made['id']} {made['state']}: {made['reason']}")


# Pieces -------------------------------------------------------------------------------------------


def _only_project(remote: Remote) -> str:
    names = [p["name"] for p in remote.api("GET", "projects")["items"] if p["role"] != "viewer"]
    if len(names) == 1:
        return names[0]
    if not names:
        raise Invalid(
            "You may run notebooks in no project yet. Ask an owner to make you an editor."
        )
    raise Invalid(f"Say in which project with --project: {', '.join(names)}.")


def _parse_parameters(pairs: list[str]) -> dict[str, str]:
    values: dict[str, str] = {}
    for pair in pairs:
        name, equals, value = pair.partition("=")
        if not equals:
            raise Invalid(f"Parameter {name!r} has no value. Write: -p NAME VALUE")
        values[name] = value
    return values


def _offer_commit(remote: Remote, here: str, notebook: str, where: str, commit: bool) -> None:
    place = "in the open editor" if where == "editor" else "on disk"
    said = f"{notebook} {place} differs from the last commit, which is what a run uses."
    if not commit and sys.stdin.isatty():
        commit = typer.confirm(f"{said} Commit it now?", err=True)
    if commit:
        body = {"paths": [notebook], "message": f"Save {notebook} before a run"}
        remote.api("POST", f"{here}/commits", json=body)
        typer.echo(f"Committed {notebook}.", err=True)
    else:
        typer.echo(f"cuaderno: {said} Running the commit; to run this one, add --commit.", err=True)


def _wait(remote: Remote, run: str) -> dict[str, Any]:
    """Poll a run until it ended; on a terminal, show its progress."""
    shown, away_since = "", 0.0
    while True:
        try:
            found = remote.api("GET", f"runs/{run}")
            away_since = 0.0
        except Unavailable:
            # A part of the platform may be restarting; the run goes on meanwhile.
            away_since = away_since or time.monotonic()
            if time.monotonic() - away_since > 60:
                raise
            time.sleep(1)
            continue
        if found["state"] in FINISHED:
            if shown:
                typer.echo("\r\033[K", nl=False, err=True)
            return found
        line = found["state"]
        if found.get("cells_total"):
            line += f", {found['cells_done']} of {found['cells_total']} cells"
        if line != shown and sys.stderr.isatty():
            typer.echo(f"\r\033[K{line}", nl=False, err=True)
            shown = line
        time.sleep(0.4)


def _print_run(remote: Remote, run: dict[str, Any], as_json: bool) -> None:
    try:
        tracked = remote.api("GET", f"runs/{run['id']}/metrics")["items"]
    except Unavailable as error:
        tracked = []
        typer.echo(f"cuaderno: no metrics: {error.detail}", err=True)
    if as_json:
        return _print_json({**run, "url": remote.run_address(run["id"]), "tracked": tracked})
    typer.echo(f"{run['id']}  {run['state']}" + (f": {run['reason']}" if run["reason"] else ""))
    facts = [
        ["notebook", f"{run['notebook']} @ {run['commit'][:10]}"],
        ["project", run["project"]],
        ["by", f"{run['submitted_by']}, {ago(run['created_at'])}"],
        ["took", duration(run.get("duration"))],
        ["parameters", ", ".join(f"{k}={v}" for k, v in run["parameters"].items()) or "defaults"],
        ["address", remote.run_address(run["id"])],
    ]
    typer.echo(table([], facts))
    for experiment_run in tracked:
        typer.echo(f"\nMetrics of {experiment_run['name']}")
        rows = [[f"  {k}", f"{v:.6g}"] for k, v in sorted(experiment_run["metrics"].items())]
        typer.echo(table([], rows))


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2))
