"""`cuaderno up`: what it refuses, how it ends, and that what it leaves never hinders a start."""

from __future__ import annotations

import json
import os
import signal
import socket
import stat
import subprocess

import psutil
import pytest

from tests.platform import CUADERNO, Platform, temp_platform, wait_for

QUIET = {"CUADERNO_DEMO_FIRST_RUN": "false"}


def refused(platform: Platform, *argv: str, **environ: str) -> str:
    done = subprocess.run(
        [str(CUADERNO), "up", *argv],
        env={**platform.environ, **environ},
        cwd=platform.data_dir.parent,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1, done.stdout + done.stderr
    line = done.stderr.strip()
    assert line.startswith("cuaderno: ") and "\n" not in line, done.stderr
    return line


def test_the_first_login_is_private_and_works(platform):
    path = platform.data_dir / "first-login"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    name, password = platform.first_login()
    home = platform.sign_in(name, password).get("/services/cuaderno/")
    assert name in home.text


def test_a_second_up_is_refused(platform):
    line = refused(platform, "--port", str(platform.port + 1))
    assert "already runs" in line and "cuaderno status" in line


async def test_a_taken_port_a_bad_setting_and_a_locked_folder_are_refused():
    async with temp_platform(start=False) as platform:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", platform.port))
            taken.listen()
            assert "--port" in refused(platform, "--port", str(platform.port))
        assert "CUADERNO_PORT must be" in refused(platform, CUADERNO_PORT="x")
        assert "allow_remote" in refused(platform, CUADERNO_HOST="0.0.0.0")
        nobody = "postgresql://me:very-secret@127.0.0.1:9/none"
        for variable in ("DATABASE_URL", "HUB_DATABASE_URL", "TRACKING_DATABASE_URL"):
            line = refused(platform, **{f"CUADERNO_{variable}": nobody})
            assert "cannot be opened" in line and "very-secret" not in line
        assert "artifacts.url" in refused(platform, CUADERNO_ARTIFACTS_URL="nowhere://x")
        assert "--config" in refused(platform, "--config", "none.toml")
        file = platform.data_dir / "file"
        file.write_text("")
        assert "--data-dir" in refused(platform, "--data-dir", str(file / "below"))
        assert not platform.left()


@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user here")
async def test_an_unwritable_folder_is_refused():
    """Root writes anywhere, so the check runs as `nobody`, in a process of its own."""
    async with temp_platform(start=False) as platform:
        platform.data_dir.chmod(0o755)
        platform.data_dir.parent.chmod(0o755)
        script = (
            "import os, sys, pathlib; from hub_config import startup, settings, errors\n"
            "s = settings.load_settings({}, data_dir=pathlib.Path(sys.argv[1]))\n"
            "os.setgid(65534); os.setuid(65534)\n"
            "try: startup.lock(s)\n"
            "except errors.Misconfigured as e: print(e.detail)\n"
        )
        python = CUADERNO.parent / "python"
        done = subprocess.run(
            [str(python), "-c", script, str(platform.data_dir)], capture_output=True, text=True
        )
        assert "Cannot write to the data folder" in done.stdout, done.stderr


async def test_stop_leaves_no_process_and_kill_leaves_no_hindrance():
    async with temp_platform(**QUIET) as platform:
        processes = json.loads((platform.data_dir / "run" / "processes.json").read_text())
        assert {p["state"] for p in processes} == {"running"}
        # A user's server with a kernel that detached a process of its own belongs to it too.
        ana = platform.person("ana", "demo")
        started = ana.browser.post("/services/cuaderno/api/projects/demo/server", headers=same(ana))
        assert started.is_success, started.text

        platform.process.kill()
        platform.process.wait()
        assert platform.left(), "kill -9 of the supervisor leaves its children"
        platform.start()
        assert "left on this data folder" in platform.output.read_text()
        assert platform.operator.get("projects").json()["items"][0]["name"] == "demo"

        before = {p.pid for p in platform.left()}
        assert platform.stop(signal.SIGINT) < 10
        assert platform.process.returncode == 0
        assert not platform.left()
        assert not [pid for pid in before if psutil.pid_exists(pid)]


def same(person) -> dict[str, str]:
    """What a browser adds to a request that a page of ours makes."""
    return {"Sec-Fetch-Site": "same-origin"}


def test_status_shows_every_process(platform):
    done = platform.cuaderno("status", "--json")
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    expected = {"proxy", "hub", "web", "jobs", "tracking", "dashboards", "scheduler", "worker-0"}
    assert set(rows) == expected
    assert all(row["state"] == "running" and row["memory_bytes"] > 2**20 for row in rows.values())
    assert "worker-0" in platform.cuaderno("status").stdout


async def test_the_processes_are_modest_before_the_first_run():
    async with temp_platform(CUADERNO_DEMO_FIRST_RUN="false") as platform:

        def total() -> int:
            from hub_config.node.processes import proportional_bytes

            return sum(proportional_bytes(p.pid) for p in platform.left())

        used = wait_for("memory", total)
        assert used < 1.5 * 2**30, f"{used / 2**20:.0f} MiB"


def test_secrets_are_in_no_command_line_and_no_log(platform):
    secrets = {
        path.name: path.read_text().strip()
        for path in (platform.data_dir / "secrets").iterdir()
        if path.is_file() and not path.name.endswith((".pem", ".crt", ".key"))
    }
    assert len(secrets) >= 8
    secrets["first password"] = platform.first_login()[1]
    for process in platform.left():
        try:
            line = " ".join(process.cmdline())
        except psutil.NoSuchProcess:
            continue
        assert not [n for n, value in secrets.items() if value in line], line
    for log in (platform.data_dir / "logs").iterdir():
        text = log.read_text(errors="replace")
        assert not [n for n, value in secrets.items() if value in text], log
    assert not [n for n, value in secrets.items() if value in platform.output.read_text()]
    for path in (platform.data_dir / "secrets").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
