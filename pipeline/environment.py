"""What a machine offers a training, point by point: `CHECKS` is the list. Trains nothing and changes nothing."""

import importlib.util
import os
import platform
import re
import secrets
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import torch

from core.device_manager import DeviceManager, compile_problem
from core.errors import DiskError
from core.files import LOCAL_DISK, TEMPORARY_MARK, explain_disk_errors

OLDEST_PYTHON = (3, 11)
OLDEST_TORCH, NEWEST_TORCH = (2, 11), (2, 14)
"""Versions that the tests have seen."""

PROBE_BYTES = 32 * 2**20
SLOW_DISK = 30e6
"""Bytes a second: below, the checkpoint of a model of 100 million parameters takes 40 s."""

LITTLE_ROOM = 2e9
LITTLE_MEMORY = 1.5e9
"""Bytes; the quickstart takes about half of either."""

EXTRAS = {
    "tensorboard": "tensorboard",
    "wandb": "wandb",
    "plots": "matplotlib",
    "documents": "pypdf",
    "sql": "sqlalchemy",
    "cluster": "distributed",
    "tiktoken": "tiktoken",
    "export": "xllamacpp",
}
"""Optional features by the name that pip knows them under, and the module that shows that they are there."""


class Check(NamedTuple):
    """A point: what was found, and what to do where that is not as it should be (None = it is)."""

    name: str
    found: str
    remedy: str | None = None


def check_environment(device_manager: DeviceManager, place: Path) -> list[Check]:
    """Every point of `CHECKS`, in order.

    Args:
        place: Where runs write; the nearest directory above it that exists is measured.
    """
    existing = next(parent for parent in (place, *place.absolute().parents) if parent.is_dir())
    return [check(device_manager, existing) for check in CHECKS]


def check_python(_device_manager: DeviceManager, _place: Path) -> Check:
    """The version of Python."""
    wanted = ".".join(map(str, OLDEST_PYTHON))
    remedy = None if sys.version_info >= OLDEST_PYTHON else f"install Python {wanted} or newer"
    return Check("Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}", remedy)


def check_torch(_device_manager: DeviceManager, _place: Path) -> Check:
    """The version of torch."""
    version = tuple(map(int, re.findall(r"\d+", torch.__version__)[:2]))
    oldest, newest = (".".join(map(str, one)) for one in (OLDEST_TORCH, NEWEST_TORCH))
    remedy = None
    if not OLDEST_TORCH <= version <= NEWEST_TORCH:
        remedy = f"tested with {oldest} to {newest}: pip install --constraint constraints.txt torch"
    return Check("torch", torch.__version__, remedy)


def check_device(device_manager: DeviceManager, _place: Path) -> Check:
    """What the training would run on."""
    info = device_manager.get_device_info()
    remedy = None
    if device_manager.device.type == "cpu" and _has_nvidia_card():
        remedy = "torch does not see the NVIDIA card of this machine: install its CUDA build, and a driver that fits"
    memory = f", {info['memory_bytes'] / 1e9:.1f} GB" if info["memory_bytes"] else ""
    return Check("device", f"{info['device']}: {info['name']}{memory}", remedy)


def check_precision(device_manager: DeviceManager, _place: Path) -> Check:
    """How fast products are in each type, and which one a training would choose."""
    speeds = {dtype: device_manager.measured_flops(dtype) / 1e9 for dtype in (torch.float32, torch.bfloat16)}
    chosen = str(device_manager.compute_dtype("auto")).removeprefix("torch.")
    found = ", ".join(f"{str(dtype).removeprefix('torch.')} {speed:,.0f}" for dtype, speed in speeds.items())
    remedy = None
    if max(speeds.values()) < 10:
        remedy = "very slow: look for other work on the machine, or for a torch that was built for another processor"
    return Check("products", f"{found} GFLOP/s; mixed_precision=auto takes {chosen}", remedy)


def check_threads(_device_manager: DeviceManager, _place: Path) -> Check:
    """How many threads compute, and how they wait."""
    cores, threads = usable_cores(), torch.get_num_threads()
    settings = [
        f"{n}={os.environ[n]}"
        for n in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
        if n in os.environ
    ]
    found = ", ".join([f"{threads} threads on {cores} cores", *settings])
    remedy = None
    if threads > cores:
        remedy = f"more threads than cores wait for each other: OMP_NUM_THREADS={cores}"
    elif threads < cores // 2:
        remedy = f"most cores are idle: unset OMP_NUM_THREADS, or set it to the number of real cores (at most {cores})"
    return Check("threads", found, remedy)


def check_load(_device_manager: DeviceManager, _place: Path) -> Check:
    """How much else the machine is doing."""
    if not hasattr(os, "getloadavg"):  # Windows
        return Check("other work", "unknown here")
    load, cores = os.getloadavg()[0], usable_cores()
    remedy = None
    if load > 1.5 * cores:
        remedy = "a time budget buys fewer steps now: wait, or end what else runs"
    return Check(
        "other work", f"{load:.1f} processes ran or waited in the last minute, for {cores} cores", remedy
    )


def check_compiler(device_manager: DeviceManager, _place: Path) -> Check:
    """Whether torch.compile works."""
    problem = compile_problem(device_manager.device)
    if problem is None:
        return Check("torch.compile", "works: training.compile=auto uses it for long trainings")
    return Check(
        "torch.compile",
        f"does not work: {problem}",
        "training works, only slower; install a C++ compiler (g++ or clang++) with Python's headers",
    )


def check_memory(_device_manager: DeviceManager, _place: Path) -> Check:
    """Memory that is free now."""
    free = _available_memory()
    if free is None:
        return Check("memory", "unknown here")
    remedy = None if free >= LITTLE_MEMORY else "end what else takes memory, or choose a smaller run.preset"
    return Check("memory", f"{free / 1e9:.1f} GB available", remedy)


def check_disk(_device_manager: DeviceManager, place: Path) -> Check:
    """Room and speed where runs write."""
    free = shutil.disk_usage(place).free
    try:
        speed = write_speed(place, num_bytes=PROBE_BYTES)
    except DiskError as error:
        return Check("disk", str(error), "name another run.dir")
    remedy = None
    if free < LITTLE_ROOM:
        remedy = "make room, or name a run.dir on another disk"
    elif speed < SLOW_DISK:
        remedy = "checkpoints take long: name a run.dir on a local disk, or save less often (save_steps)"
    return Check("disk", f"{free / 1e9:,.1f} GB free, writes {speed / 1e6:,.0f} MB/s at {place}", remedy)


def check_extras(_device_manager: DeviceManager, _place: Path) -> Check:
    """Optional packages; lacking them is no fault."""
    there = {extra: importlib.util.find_spec(module) is not None for extra, module in EXTRAS.items()}
    shown = [f"{extra} {'yes' if found else 'no'}" for extra, found in there.items()]
    return Check("extras", ", ".join(shown) + "  (pip install -e '.[NAME]')")


CHECKS: tuple[Callable[[DeviceManager, Path], Check], ...] = (
    check_python,
    check_torch,
    check_device,
    check_precision,
    check_threads,
    check_load,
    check_compiler,
    check_memory,
    check_disk,
    check_extras,
)


def write_speed(directory: Path, *, num_bytes: int) -> float:
    """Bytes a second that reach the medium; the file is gone afterwards.

    Raises:
        DiskError: the disk is full, read-only or failing.
    """
    path = directory / f".speed{TEMPORARY_MARK}{secrets.token_hex(6)}"
    block = os.urandom(2**20)
    with explain_disk_errors(directory):
        try:
            started = time.perf_counter()
            with path.open("xb") as file:
                for _ in range(num_bytes // len(block)):
                    file.write(block)
                LOCAL_DISK.sync_file(file)
            return num_bytes / (time.perf_counter() - started)
        finally:
            path.unlink(missing_ok=True)


def usable_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):  # Linux
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _has_nvidia_card() -> bool:
    return Path("/proc/driver/nvidia/version").exists()


def _available_memory() -> int | None:
    """As the Linux kernel estimates it; a limit of the container that is lower counts instead."""
    try:
        text = Path("/proc/meminfo").read_text(encoding="ascii")
    except FileNotFoundError:
        return None
    found = re.search(r"^MemAvailable:\s+(\d+) kB$", text, re.MULTILINE)
    if found is None:
        return None
    available = int(found[1]) * 1024
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = (
            (group / name).read_text(encoding="ascii").strip() for name in ("memory.max", "memory.current")
        )
    except OSError:
        return available
    return min(available, int(limit) - int(used)) if limit.isdecimal() else available
