"""Settings: who wins, what is refused and in which words, what follows from the data folder."""

import dataclasses
from pathlib import Path

import pytest

from hub_config.errors import Misconfigured
from hub_config.settings import dump_settings, load_settings


def write(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "cuaderno.toml"
    path.write_text(text)
    return path


def test_environment_wins_over_file_and_argument_over_both(tmp_path):
    config = write(tmp_path, "port = 8100\n[dask]\nworkers = 3\nslots_per_worker = 5\n")
    environ = {"CUADERNO_DASK_WORKERS": "4", "CUADERNO_DATA_DIR": str(tmp_path)}
    settings = load_settings(environ, config=config)
    assert (settings.port, settings.dask.workers, settings.dask.slots_per_worker) == (8100, 4, 5)
    assert load_settings(environ, config=config, port=8200).port == 8200


def test_settings_are_frozen(tmp_path):
    with pytest.raises(dataclasses.FrozenInstanceError):
        load_settings({}, data_dir=tmp_path).port = 1  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("prot = 1", "Unknown setting 'prot'"),
        ("[dask]\nworker = 1", "Unknown setting 'worker'"),
        ("port = 'x'", "must be a whole number"),
        ("port = true", "must be a whole number"),
        ("port = 70000", "from 1 to 65535"),
        ("dask = 3", "must be a table"),
        ("allow_remote = 'perhaps'", "true or false"),
        ("host = '0.0.0.0'", "allow_remote"),
        ("[database]\nurl = 'mysql://u:secret@h/d'", "postgresql://"),
        ("[hub]\ndatabase_url = 'sqlite:///here.db'", "sqlite:////absolute/path"),
        ("[kernels]\npython = 'python3'", "absolute path"),
        ("[artifacts]\nurl = 'folder'", "must be a URL"),
        ("[dask]\nworkers = 0", "1 or more"),
        ("[jobs]\nheartbeat_seconds = -1", "more than 0"),
        ("[hub]\nsubdomain_host = 'nowhere'", "must be a URL"),
        ("this is not toml", "not valid TOML"),
    ],
)
def test_a_bad_setting_is_refused_in_one_line(tmp_path, text, says):
    with pytest.raises(Misconfigured) as refused:
        load_settings({}, config=write(tmp_path, text), data_dir=tmp_path)
    assert says in refused.value.detail
    assert "\n" not in refused.value.detail
    assert "secret" not in refused.value.detail


def test_a_missing_file_is_refused_only_when_named(tmp_path):
    with pytest.raises(Misconfigured, match="Cannot read"):
        load_settings({}, config=tmp_path / "none.toml", data_dir=tmp_path)
    load_settings({}, data_dir=tmp_path)


def test_remote_addresses_need_a_word(tmp_path):
    environ = {"CUADERNO_HOST": "0.0.0.0", "CUADERNO_ALLOW_REMOTE": "true"}
    assert load_settings(environ, data_dir=tmp_path).local_url == "http://127.0.0.1:8000"


def test_dump_reads_back_and_masks_passwords(tmp_path):
    url = "postgresql://me:very-secret@db/c"
    before = load_settings({"CUADERNO_DATABASE_URL": url}, data_dir=tmp_path)
    after = load_settings({}, config=write(tmp_path, dump_settings(before)), data_dir=tmp_path)
    assert after == before
    assert "very-secret" not in dump_settings(before, mask=True)


def test_runtime_folder_is_short_wherever_the_data_lies(tmp_path):
    deep = tmp_path / ("d" * 90)
    assert len(str(load_settings({}, data_dir=deep).runtime_dir)) <= 45
    assert load_settings({}, data_dir=Path("/srv/cu")).runtime_dir == Path("/srv/cu/rt")
