"""Stores behind URLs for tests: one that fails as it is told to, and how to put something there."""

import itertools
from typing import Any

import fsspec
from fsspec.implementations.memory import MemoryFileSystem

NUMBER = itertools.count()


class FailingFileSystem(MemoryFileSystem):
    """`failing://`: as memory://, but the next requests end in the errors that were put on `errors`."""

    protocol = "failing"
    store: dict[str, Any] = {}  # noqa: RUF012 - the library's way
    pseudo_dirs = [""]  # noqa: RUF012
    errors: list[Exception] = []  # noqa: RUF012

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return str(super()._strip_protocol(path.removeprefix("failing://")))

    def _fail(self) -> None:
        if self.errors:
            raise self.errors.pop(0)

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> Any:
        self._fail()
        return super().ls(path, detail, **kwargs)

    def info(self, path: str, **kwargs: Any) -> Any:
        self._fail()
        return super().info(path, **kwargs)

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **kwargs: Any) -> Any:
        self._fail()
        return super().cat_file(path, start, end, **kwargs)

    def pipe_file(self, path: str, value: bytes, mode: str = "overwrite", **kwargs: Any) -> None:
        self._fail()
        super().pipe_file(path, value, mode, **kwargs)

    def mv(self, path1: str, path2: str, **kwargs: Any) -> None:
        self._fail()
        super().mv(path1, path2, **kwargs)


def put(url: str, name: str, data: bytes = b"text") -> None:
    store, path = fsspec.url_to_fs(f"{url}/{name}")
    store.makedirs(path.rpartition("/")[0], exist_ok=True)
    store.pipe_file(path, data)
