"""How a store behind a URL is reached by way of fsspec, and how its failures are borne. Knows no files and no shards.

fsspec is loaded when the first URL is asked for: it takes 0.1 s.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from core.errors import ConfigError, MissingDependencyError
from data_processing.sources.retries import with_retries

T = TypeVar("T")

MAX_RETRIES = 5
"""How often a request is repeated after an error that may pass: half a minute in all; arbitrary."""

_ADVICE = "check the network, the address and who may read it, then run the same command again: what is done stays done"


def file_system(url: str) -> tuple[Any, str]:
    """The file system of fsspec for a URL, and the path in it.

    Raises:
        ConfigError: the scheme is unknown.
        MissingDependencyError: the package for the scheme is not installed.
    """
    import fsspec
    from fsspec.registry import known_implementations

    scheme = url.partition("://")[0].partition("::")[0]
    try:
        store, path = fsspec.url_to_fs(url)
    except ImportError as error:
        wanted = known_implementations.get(scheme, {}).get("err") or str(error)
        raise MissingDependencyError(
            f"{url}: the package that reads {scheme}:// is not installed ({wanted}); "
            f"install it with pip ({_PACKAGES.get(scheme, 'see the message')}), or copy the files to this machine"
        ) from None
    except ValueError as error:
        raise ConfigError(
            f"{url}: fsspec cannot read this address ({error}); expected a path or an address such as "
            "s3://bucket/directory, gs://bucket/directory or file:///directory"
        ) from None
    return store, str(path)


_PACKAGES = {
    **dict.fromkeys(("s3", "s3a"), "pip install s3fs"),
    **dict.fromkeys(("gs", "gcs"), "pip install gcsfs"),
    **dict.fromkeys(("az", "abfs", "abfss", "adl"), "pip install adlfs"),
    **dict.fromkeys(("sftp", "ssh"), "pip install paramiko"),
    **dict.fromkeys(("http", "https"), "pip install aiohttp requests"),
}


def patiently(action: Callable[[], T], *, what: str) -> T:
    """What `action` gives; what fails on the way is tried again.

    Raises:
        UnreachableError: it goes on failing.
    """
    return with_retries(action, max_retries=MAX_RETRIES, what=what, advice=_ADVICE)


def kind_of(store: Any, path: str, *, url: str) -> str | None:
    """`file`, `directory` or another kind of thing; None when nothing is there.

    Not `store.isfile` and `store.exists`, which take an answer that does not come for "no".
    """
    try:
        return str(patiently(lambda: store.info(path), what=f"looking at {url}")["type"])
    except FileNotFoundError:
        return None


def protocols(store: Any) -> set[str]:
    """The schemes under which a file system is known."""
    return {store.protocol} if isinstance(store.protocol, str) else set(store.protocol)
