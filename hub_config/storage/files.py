"""Artifact files on any fsspec store: executed notebooks, HTML, logs.

A key is a relative path such as `runs/<id>/executed.ipynb`. A local store writes atomically; object
stores do so by nature.
"""

from __future__ import annotations

import os
from pathlib import PurePosixPath
from urllib.parse import urlsplit
from urllib.request import url2pathname

import fsspec
from fsspec.implementations.local import LocalFileSystem

from hub_config.errors import Invalid, NotFound


class FileStore:
    """Files under one fsspec URL (`file:///…`, `s3://bucket/prefix`, `memory://…`)."""

    def __init__(self, url: str) -> None:
        self.url = url
        # In a file: URL a space is %20, as for MLflow; fsspec takes it as it stands.
        place = url2pathname(urlsplit(url).path) if url.startswith("file:") else url
        self._fs, self._root = fsspec.core.url_to_fs(place)

    def _path(self, key: str) -> str:
        parts = PurePosixPath(key).parts
        if not parts or key.startswith("/") or any(p in ("..", ".") or "\0" in p for p in parts):
            raise Invalid(f"{key!r} is not the name of an artifact.")
        return f"{self._root.rstrip('/')}/{'/'.join(parts)}"

    def write(self, key: str, data: bytes) -> None:
        path = self._path(key)
        self._fs.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
        if isinstance(self._fs, LocalFileSystem):
            temporary = f"{path}.{os.getpid()}.part"
            self._fs.pipe_file(temporary, data)
            os.replace(temporary, path)  # noqa: PTH105 (fsspec paths are strings)
        else:
            self._fs.pipe_file(path, data)

    def read(self, key: str) -> bytes:
        """The file's bytes. Raises `NotFound`."""
        try:
            return self._fs.cat_file(self._path(key))
        except FileNotFoundError as error:
            raise NotFound(f"There is no file {key}.") from error

    def exists(self, key: str) -> bool:
        return bool(self._fs.exists(self._path(key)))

    def names(self, prefix: str) -> list[str]:
        """Names directly under `prefix`, sorted; empty when there is none."""
        try:
            return sorted(
                p.rstrip("/").rsplit("/", 1)[-1]
                for p in self._fs.ls(self._path(prefix), detail=False)
            )
        except FileNotFoundError:
            return []
