"""The same function over many tasks in several processes, results in order. Knows nothing of the work.

Not `concurrent.futures.ProcessPoolExecutor`: with its "spawn" start a child first runs the caller's script again, which
for a script without an `if __name__ == "__main__"` guard means that it collects its data once more in every child; and
its "fork" start deadlocks when a library has threads. Here a child is a fresh interpreter that loads only what the
task names.
"""

import contextlib
import gc
import os
import pickle
import signal
import struct
import subprocess
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import IO, Any, TypeVar

from core.errors import WorkerDiedError

T = TypeVar("T")
R = TypeVar("R")

Mapper = Callable[[Callable[[T], R], Iterable[T]], Iterator[R]]
"""`map` in the order of the tasks, with few of them under way at a time, wherever the work is done."""

_LENGTH = struct.Struct("<Q")
_SERVE = "from core.workers import _serve; _serve()"


TASKS_AHEAD = 4
"""Tasks a worker beyond the first result that is not there yet. With two, one of two workers has nothing to do as soon
as a task takes longer than the three behind it, as of shards every eighth does; with four, every hundredth."""

OBJECTS_BETWEEN_COLLECTIONS = 50_000
"""New containers after which a worker looks for cycles among them; arbitrary: a few megabytes of them."""


def map_here(function: Callable[[T], R], tasks: Iterable[T]) -> Iterator[R]:
    """The results one after the other, in this process."""
    return map(function, tasks)


@contextlib.contextmanager
def process_mapper(num_workers: int) -> Iterator[Mapper[Any, Any]]:
    """A mapper over `num_workers` processes, which start with the second task and end with the block.

    `function` and tasks must be importable from modules: what a script defines in itself is done in this process. At
    most `TASKS_AHEAD` tasks a worker are under way or wait to be read, so a generator of tasks is not run ahead of.

    Raises, while results are read:
        WorkerDiedError: a process ended by itself; tasks that were finished are not lost if they wrote their results.
        Exception: what the function raised, as it raised it.
    """
    if num_workers == 1:
        yield map_here
        return
    with _Pool(num_workers) as pool:
        yield pool.map


class _Pool:
    """Worker processes, each driven by a thread that waits for it."""

    def __init__(self, num_workers: int) -> None:
        self._num_workers = num_workers
        self._threads = ThreadPoolExecutor(num_workers, thread_name_prefix="worker")
        self._own = threading.local()
        self._processes: list[subprocess.Popen[bytes]] = []
        self._ended = False
        self._starting = threading.Lock()

    def __enter__(self) -> "_Pool":
        return self

    def __exit__(self, *_: object) -> None:
        with self._starting:
            self._ended = True
        # Not waited for: a task that is under way is of no use any more, and its output is written atomically.
        for process in self._processes:
            process.kill()
        self._threads.shutdown(cancel_futures=True)
        for process in self._processes:
            process.wait()
            for pipe in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):  # what was still to be written has no reader
                    pipe.close()  # type: ignore[union-attr]

    def map(self, function: Callable[[Any], Any], tasks: Iterable[Any]) -> Iterator[Any]:
        """The results in the order of the tasks."""
        iterator = iter(tasks)
        first, second = next(iterator, _NOTHING), next(iterator, _NOTHING)
        if first is _NOTHING:
            return
        if second is _NOTHING:  # not worth a process
            yield function(first)
            return
        waiting: deque[Future[Any]] = deque()
        for task in (first, second):
            waiting.append(self._submit(function, task))
        for task in iterator:
            waiting.append(self._submit(function, task))
            if len(waiting) >= TASKS_AHEAD * self._num_workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def _submit(self, function: Callable[[Any], Any], task: Any) -> "Future[Any]":
        try:
            call = pickle.dumps((function, task))
        except (
            pickle.PicklingError,
            AttributeError,
            TypeError,
        ):  # what cannot be imported, such as a local class
            call = b"__main__"
        if b"__main__" in call:
            done: Future[Any] = Future()
            done.set_result(function(task))
            return done
        return self._threads.submit(self._call, call)

    def _call(self, call: bytes) -> Any:
        process = getattr(self._own, "process", None)
        if process is None:
            with (
                self._starting
            ):  # a process that starts while the pool ends would be waited for and never told
                if self._ended:
                    raise WorkerDiedError("the pool of workers has ended")
                process = self._own.process = _start()
                self._processes.append(process)
        try:
            _send(process.stdin, call)
            answer = _receive(process.stdout)
        except (OSError, EOFError):
            code = process.wait()
            how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
            raise WorkerDiedError(
                f"a worker process ended by itself ({how}); most often the system ran out of memory: lower "
                "data.num_workers or data.memory_bytes and run the same command again, finished parts are kept"
            ) from None
        result, error, where = pickle.loads(answer)
        if error is not None:
            error.add_note(f"in a worker process:\n{where}")
            raise error
        return result


_NOTHING: Any = object()


def _start() -> "subprocess.Popen[bytes]":
    # "" is the current directory, where the parent may look for modules; a child does so only then (-P): a
    # corpus of source code may hold a json.py.
    path = [entry or str(Path.cwd()) for entry in sys.path]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path)}
    # -W: a warning is an error there where it is one here.
    options = [f"-W{option}" for option in sys.warnoptions]
    return subprocess.Popen(
        [sys.executable, "-P", *options, "-c", _SERVE],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    )


def _serve() -> None:
    """What a worker process does: answer calls until there are none."""
    # The parent decides what Ctrl-C means; when it is gone, reading ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    calls, answers = sys.stdin.buffer, os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what anybody prints must not get among the answers
    # Documents and rows make no cycles, and looking for some among them after every 700 new objects took 4 % of a
    # collection.
    gc.set_threshold(OBJECTS_BETWEEN_COLLECTIONS)
    with contextlib.suppress(EOFError, BrokenPipeError):
        while True:
            _send(answers, _answer(_receive(calls)))
    with contextlib.suppress(BrokenPipeError):
        answers.close()


def _answer(call: bytes) -> bytes:
    try:
        function, task = pickle.loads(call)
        return pickle.dumps((function(task), None, ""))
    except Exception as error:  # noqa: BLE001 - raised again where the result is read
        where = traceback.format_exc()
        try:
            return pickle.dumps((None, pickle.loads(pickle.dumps(error)), where))
        except Exception:  # noqa: BLE001 - an exception of a library that cannot be sent
            return pickle.dumps((None, RuntimeError(f"{type(error).__name__}: {error}"), where))


def _send(pipe: IO[bytes] | None, message: bytes) -> None:
    assert pipe is not None
    pipe.write(_LENGTH.pack(len(message)))
    pipe.write(message)
    pipe.flush()


def _receive(pipe: IO[bytes] | None) -> bytes:
    assert pipe is not None
    (length,) = _LENGTH.unpack(_read_exactly(pipe, _LENGTH.size))
    return _read_exactly(pipe, length)


def _read_exactly(pipe: IO[bytes], size: int) -> bytes:
    data = pipe.read(size)
    if len(data) < size:
        raise EOFError
    return data
