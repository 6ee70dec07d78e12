"""Who carries out the tasks of a collection: processes of this machine, or the workers of a Dask cluster."""

import contextlib
import importlib
import logging
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from core.data_config import DataConfig
from core.errors import DataError, MissingDependencyError
from core.workers import Mapper, process_mapper

logger = logging.getLogger(__name__)

WORKER_BYTES = 450_000_000
"""Memory that one worker may come to, measured on parts of the largest size: 110 MB of libraries, and a dozen times the
text that it holds (the text as bytes, as characters, as lines, as words)."""

OWN_BYTES = 400_000_000
"""Memory of the process that hands out the work: libraries, names of files, digests."""


def num_workers_within(memory_bytes: int, wanted: int | None) -> int:
    """How many processes fit into the memory; at most `wanted` (None = one for each core), at least one."""
    cores = os.cpu_count() or 1
    number = cores if wanted is None else wanted
    fitting = max(1, (memory_bytes - OWN_BYTES) // WORKER_BYTES)
    if fitting < number and wanted is None:
        logger.info(
            "collecting with %d of %d cores, as many as fit into data.memory_bytes=%s; raise it to use more",
            fitting,
            cores,
            f"{memory_bytes:,}",
        )
    return min(number, fitting)


@contextlib.contextmanager
def open_engine(config: DataConfig) -> Iterator[Mapper[Any, Any]]:
    """What carries out tasks as the configuration says; results come in the order of the tasks whoever it is.

    Raises:
        MissingDependencyError: Dask is asked for and not installed.
        DataError: the scheduler does not answer.
    """
    if config.engine == "local":
        with process_mapper(num_workers_within(config.memory_bytes, config.num_workers)) as mapper:
            yield mapper
        return
    with _dask_client(config) as client:
        yield lambda function, tasks: _map_on_cluster(client, function, tasks)


@contextlib.contextmanager
def _dask_client(config: DataConfig) -> Iterator[Any]:
    try:
        distributed: Any = importlib.import_module("distributed")
    except ImportError:
        raise MissingDependencyError(
            "data.engine is dask, but Dask is not installed: pip install -e '.[cluster]', or set data.engine=local"
        ) from None
    if config.scheduler is not None:
        try:
            client = distributed.Client(config.scheduler, timeout=SCHEDULER_TIMEOUT_SECONDS)
        except (OSError, TimeoutError, ValueError) as error:
            raise DataError(
                f"data.scheduler={config.scheduler!r}: no Dask scheduler answers there ({error}); start one with "
                "`dask scheduler` and name its address, or set data.scheduler to null for a cluster on this machine"
            ) from None
        with client:
            yield client
        return
    number = num_workers_within(config.memory_bytes, config.num_workers)
    # Its own account of coming and going, in some thirty lines, looks like a crash.
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    with (
        distributed.LocalCluster(
            n_workers=number, threads_per_worker=1, dashboard_address=None, silence_logs=logging.CRITICAL
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        yield client


SCHEDULER_TIMEOUT_SECONDS = 20
"""How long a scheduler may take to answer; arbitrary."""


def _map_on_cluster(client: Any, function: Callable[[Any], Any], tasks: Iterable[Any]) -> Iterator[Any]:
    # A window, so that a generator of a million tasks is not run ahead of.
    ahead = 2 * max(1, sum(client.nthreads().values()))
    waiting: deque[Any] = deque()
    for task in tasks:
        # Not pure: the same task again must look again at what is there.
        waiting.append(client.submit(function, task, pure=False))
        if len(waiting) >= ahead:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()
