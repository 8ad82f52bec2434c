"""Artifact files on any fsspec store: executed notebooks, HTML, logs.

A key is a relative path such as `runs/<id>/executed.ipynb`. A local store writes atomically; object
stores do so by nature.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit
from urllib.request import url2pathname

import fsspec
from fsspec.implementations.local import LocalFileSystem

from hub_config.errors import Invalid, NotFound

PIECE = 1 << 18  # bytes of a file that are in memory at once when it is streamed


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
        with self._place(key) as path:
            self._fs.pipe_file(path, data)

    def put(self, key: str, source: Path) -> None:
        """Copy a file of this machine, however large."""
        with self._place(key) as path:
            self._fs.put_file(str(source), path)

    @contextmanager
    def _place(self, key: str) -> Iterator[str]:
        """Where to write the file; it stands under its key when the block ends well."""
        path = self._path(key)
        self._fs.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
        if isinstance(self._fs, LocalFileSystem):
            temporary = f"{path}.{os.getpid()}.part"
            yield temporary
            os.replace(temporary, path)  # noqa: PTH105 (fsspec paths are strings)
        else:
            yield path

    def read(self, key: str) -> bytes:
        """The file's bytes. Raises `NotFound`."""
        try:
            return self._fs.cat_file(self._path(key))
        except FileNotFoundError as error:
            raise NotFound(f"There is no file {key}.") from error

    def stream(self, key: str) -> tuple[int, Iterator[bytes]]:
        """The file's size and its bytes in pieces. Raises `NotFound`, and that at once."""
        try:
            file = self._fs.open(self._path(key), "rb")
        except FileNotFoundError as error:
            raise NotFound(f"There is no file {key}.") from error
        size = file.seek(0, os.SEEK_END)
        file.seek(0)

        def pieces() -> Iterator[bytes]:
            left = size  # and no more, should it grow: the size has been said
            with file:
                while left and (piece := file.read(min(PIECE, left))):
                    left -= len(piece)
                    yield piece

        return size, pieces()

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
