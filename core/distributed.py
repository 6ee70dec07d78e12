"""The processes that train one model together, started by torchrun or anything that sets the same environment.

Knows who is who and how they agree on numbers; knows no model. Importing it loads torch and starts nothing.
"""

import contextlib
import dataclasses
import datetime
import faulthandler
import io
import json
import logging
import os
import signal
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.distributed_c10d import PrefixStore, Store
from torch.distributed.rendezvous import rendezvous

from core.errors import BloomeryError, ConfigError, PeerLostError

logger = logging.getLogger(__name__)

TIMEOUT_VARIABLE = "BLOOMERY_COLLECTIVE_TIMEOUT_SECONDS"
TIMEOUT_SECONDS = 600.0
"""Longest wait for the other processes within a step. The first steps wait for compilers, so not less (arbitrary)."""

SECONDS_BETWEEN_LOOKS = 0.05

PATIENT_SECONDS = 30 * 86_400.0
"""Longest wait for the main process while it collects, tokenizes or saves: only its death ends the wait sooner."""


@dataclasses.dataclass(frozen=True)
class World:
    """All processes of a run, seen from one of them. A world of one needs no group and every call is free."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    """Number of this process on its machine."""
    local_size: int = 1
    """Processes on this machine."""
    _prompt: Any = dataclasses.field(default=None, repr=False)
    _patient: Any = dataclasses.field(default=None, repr=False)

    @property
    def is_main(self) -> bool:
        """Whether this process is the one that writes and talks."""
        return self.rank == 0

    def sum(self, *values: float) -> list[float]:
        """Each value, added up over all processes in float64: the same bits in every process.

        Raises:
            PeerLostError: another process ended, or did not answer in time.
        """
        if self.size == 1:
            return list(values)
        numbers = torch.tensor(values, dtype=torch.float64)
        with explain_lost_peers():
            dist.all_reduce(numbers, group=self._prompt)
        return numbers.tolist()

    def any(self, flag: bool) -> bool:
        """Whether it is true in any process."""
        return self.sum(float(flag))[0] > 0

    def from_main(self, make: Callable[[], Any]) -> Any:
        """What `make` returns in the main process, a JSON value; it is not called in the others, which wait for it.

        Raises:
            PeerLostError: the main process ended.
        """
        if self.size == 1:
            return make()
        data = json.dumps(make()).encode() if self.is_main else b""
        with explain_lost_peers():
            length = torch.tensor([len(data)])
            dist.broadcast(length, src=0, group=self._patient)
            numbers = torch.empty(int(length), dtype=torch.uint8)
            if self.is_main:
                numbers = torch.frombuffer(bytearray(data), dtype=torch.uint8)
            dist.broadcast(numbers, src=0, group=self._patient)
        return json.loads(numbers.numpy().tobytes())

    def wait(self) -> None:
        """Return when every process has come here."""
        if self.size > 1:
            with explain_lost_peers():
                dist.barrier(group=self._patient)


ALONE = World()
_JOINED: list[World] = []
"""What this process has joined; torch's groups belong to the process as a whole, so this does too."""


def world() -> World:
    """The processes that train together with this one; a world of one outside of `joined`."""
    return _JOINED[-1] if _JOINED else ALONE


@contextlib.contextmanager
def joined() -> Iterator[World]:
    """The world that the environment describes (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT), joined for
    the block; within another such block, that one's.

    Raises:
        ConfigError: the environment describes half a world.
        PeerLostError: the others did not come.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if _JOINED or size == 1:
        yield world()
        return
    missing = [
        name for name in ("RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ
    ]
    if missing:
        raise ConfigError(
            f"WORLD_SIZE is {size}, but {', '.join(missing)} is not set; start the processes with torchrun, or unset "
            "WORLD_SIZE for a single one"
        )
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    timeout = datetime.timedelta(seconds=collective_timeout_seconds())
    with explain_lost_peers():
        found, rank, size = next(iter(rendezvous("env://", timeout=timeout)))
        store = PrefixStore(meet(found, rank, size, timeout), found)
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=timeout)
        # Numbers that decide something travel on the CPU: no GPU has to be waited for.
        prompt = dist.new_group(backend="gloo", timeout=timeout)
        patient = dist.new_group(backend="gloo", timeout=datetime.timedelta(seconds=PATIENT_SECONDS))
    _JOINED.append(
        World(
            rank=dist.get_rank(),
            size=size,
            local_rank=int(os.environ["LOCAL_RANK"]),
            local_size=int(os.environ.get("LOCAL_WORLD_SIZE", size)),
            _prompt=prompt,
            _patient=patient,
        )
    )
    try:
        yield world()
    finally:
        _JOINED.clear()
        dist.destroy_process_group()


def meet(store: Store, rank: int, size: int, timeout: datetime.timedelta) -> str:
    """A name that the processes of this start have in common, and no process of an earlier start has.

    torchrun restarts processes beside one and the same store (torch 2.13 from where it shares the store with its own
    meetings), which then still holds the addresses of those that ended; whoever reads one of these waits for the dead.
    So the main process makes up a name and answers everyone who calls it by it. Whoever found the name of an earlier
    start gets no answer, and looks again.

    Raises:
        torch.distributed.DistStoreError: somebody did not come in time.
    """
    if rank == 0:
        name = uuid.uuid4().hex
        store.set("start", name)
        for other in range(1, size):
            store.wait([f"{name}/{other}"], timeout)
            caller = store.get(f"{name}/{other}").decode()
            store.set(f"{name}/{other}/{caller}", "welcome")
        return name
    me = uuid.uuid4().hex
    deadline = time.monotonic() + timeout.total_seconds()
    name = ""
    while True:
        if (now := store.get("start").decode()) != name:
            name = now
            store.set(f"{name}/{rank}", me)
        answer = f"{name}/{rank}/{me}"
        if store.check([answer]):
            return name
        if time.monotonic() > deadline:
            store.wait([answer], datetime.timedelta(seconds=1))
        time.sleep(SECONDS_BETWEEN_LOOKS)


@contextlib.contextmanager
def dump_stacks_of_hanging(world: World) -> Iterator[Callable[[], None]]:
    """A function to call after each step of several processes: where one takes as long as the others wait for it, it
    prints on the standard error where it stands. SIGUSR1 makes it do so at once."""
    if world.size == 1:
        yield _nothing
        return
    with contextlib.suppress(
        io.UnsupportedOperation, AttributeError
    ):  # no file, as in tests; no such signal (Windows)
        faulthandler.register(signal.SIGUSR1)
    seconds = collective_timeout_seconds()
    try:
        yield lambda: faulthandler.dump_traceback_later(seconds)
    finally:
        faulthandler.cancel_dump_traceback_later()


def _nothing() -> None:
    """Where there is one process, nobody waits for it."""


def collective_timeout_seconds() -> float:
    """How long a process waits for the others within a step."""
    text = os.environ.get(TIMEOUT_VARIABLE, "")
    try:
        seconds = float(text or TIMEOUT_SECONDS)
    except ValueError:
        seconds = 0.0
    if not seconds > 0:
        raise ConfigError(f"{TIMEOUT_VARIABLE}={text!r}: expected a number of seconds above zero")
    return seconds


@contextlib.contextmanager
def explain_lost_peers() -> Iterator[None]:
    """Turn what torch raises when another process ends or hangs into one line."""
    try:
        yield
    except BloomeryError:
        raise
    except (dist.DistError, RuntimeError) as error:
        if not _is_about_peers(error):
            raise
        reason = str(error).strip().splitlines()[0][:160]
        raise PeerLostError(
            "another process of this run ended, or did not answer for "
            f"{collective_timeout_seconds():.0f} s ({reason}); what it said stands beside this; the same command goes "
            "on from the last checkpoint (torchrun --max-restarts N does so by itself)"
        ) from error


def _is_about_peers(error: Exception) -> bool:
    if isinstance(error, dist.DistError):
        return True
    text = str(error).lower()
    return any(word in text for word in ("gloo", "nccl", "connection closed", "timed out", "socket"))
