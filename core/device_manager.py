"""The one place that knows which device a run uses and which precision is fast there. Knows no model."""

import contextlib
import logging
import os
import platform
import re
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

import torch

from core.errors import ConfigError, DeviceError

logger = logging.getLogger(__name__)

PEAK_BF16_FLOPS = {
    # Dense tensor-core peak in FLOP/s from NVIDIA's data sheets; matched against the device's name.
    "H200": 989.5e12,
    "H100 PCIe": 756e12,
    "H100": 989.5e12,
    "A100": 312e12,
    "L40S": 362e12,
    "RTX 4090": 165e12,
}

BF16_MIN_SPEEDUP = 1.3
"""bf16 must win a product by this factor before it is used on CPU: casting weights costs some of it again."""

BF16_CAPABILITY = (8, 0)
"""CUDA's products in bf16 begin with Ampere; torch emulates them before, slower than float32."""

FP8_CAPABILITY = (8, 9)
"""Products in fp8 begin with Ada and Hopper."""


class DeviceManager:
    """Chooses the device: CUDA, then MPS, then CPU; or the one that is asked for, which then must be there.

    Args:
        force_device: None or "auto" to choose; otherwise "cpu", "cuda", "cuda:1" or "mps".

    Raises:
        DeviceError: the device asked for is not there; the message names those that are.
    """

    def __init__(self, force_device: str | None = None) -> None:
        self.device = torch.device(_choose_device(force_device))

    def get_device_info(self) -> dict[str, Any]:
        """Name, memory (bytes), threads and peak speed (FLOP/s, None where unknown) of the device."""
        info: dict[str, Any] = {
            "device": str(self.device),
            "type": self.device.type,
            "name": platform.processor() or platform.machine(),
            "memory_bytes": self.total_memory_bytes(),
            "peak_flops": None,
            "num_threads": torch.get_num_threads(),
            "num_devices": 1,
            "torch_version": torch.__version__,
        }
        if self.device.type == "cuda":
            info["name"] = torch.cuda.get_device_name(self.device)
            info["num_devices"] = torch.cuda.device_count()
            info["peak_flops"] = next(
                (flops for name, flops in PEAK_BF16_FLOPS.items() if name in info["name"]), None
            )
        return info

    def total_memory_bytes(self) -> int:
        """Memory of the device; of the whole machine for CPU and MPS, which shares it."""
        if self.device.type == "cuda":
            return int(torch.cuda.get_device_properties(self.device).total_memory)
        return _machine_memory_bytes()

    def peak_memory_bytes(self) -> int:
        """The most memory that this process has held: on the device for CUDA, resident otherwise."""
        if self.device.type == "cuda":
            return int(torch.cuda.max_memory_allocated(self.device))
        if os.name == "nt":  # Windows has no getrusage
            return 0
        import resource

        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return peak if platform.system() == "Darwin" else peak * 1024

    def compute_dtype(self, mixed_precision: str) -> torch.dtype:
        """The type in which products are computed: float32, bfloat16 or float16. With "fp8" it is that of all products
        but those that `models.float8` makes.

        With "auto" on CPU both are timed for a few milliseconds: processors without bf16 instructions emulate
        them and are slower. The answer can differ between machines; a run keeps the one it began with.

        Raises:
            ConfigError: "fp16" or "fp8" on a device that has nothing to gain by it.
        """
        if mixed_precision == "fp32":
            return torch.float32
        if mixed_precision == "bf16":
            return torch.bfloat16
        self.check_precision(mixed_precision)
        if mixed_precision == "fp16":
            return torch.float16
        if mixed_precision == "fp8":
            return torch.bfloat16
        if self.device.type == "cuda":
            return torch.bfloat16 if self._capability() >= BF16_CAPABILITY else torch.float16
        if self.device.type == "cpu" and _bf16_speedup_on_cpu() >= BF16_MIN_SPEEDUP:
            return torch.bfloat16
        return torch.float32

    def check_precision(self, mixed_precision: str) -> None:
        """Nothing, where the device has what is asked for.

        Raises:
            ConfigError: as `compute_dtype`.
        """
        if mixed_precision == "fp16" and self.device.type != "cuda":
            raise ConfigError(
                f"mixed_precision: fp16 is for CUDA devices without bf16, but the device is {self.device}; set it to "
                "auto, bf16 or fp32"
            )
        if mixed_precision != "fp8":
            return
        found = f"the device is {self.device}"
        if self.device.type == "cuda":
            if self._capability() >= FP8_CAPABILITY and hasattr(torch, "_scaled_mm"):
                return
            found = f"{torch.cuda.get_device_name(self.device)} has {'.'.join(map(str, self._capability()))}"
        needed = ".".join(map(str, FP8_CAPABILITY))
        raise ConfigError(
            f"mixed_precision: fp8 needs a CUDA device of compute capability {needed} or more (L4, H100, …), but "
            f"{found}; set it to auto or bf16"
        )

    def _capability(self) -> tuple[int, int]:
        return torch.cuda.get_device_capability(self.device)

    @contextlib.contextmanager
    def numerics(self, *, deterministic: bool, tf32: bool) -> Iterator[None]:
        """Set how CUDA adds up during the block, and set it back after. A CPU needs and gets nothing of it.

        Args:
            deterministic: Refuse kernels that add up in another order each time.
            tf32: Let products that are still in float32 read 10 bits of their factors' fractions.
        """
        if self.device.type != "cuda":
            if deterministic and self.device.type == "cpu":
                logger.info("deterministic: nothing to change, because on CPU runs are bit-exact anyway")
            elif deterministic:
                logger.warning("deterministic: nothing is known to make %s bit-exact", self.device.type)
            yield
            return
        precision = torch.get_float32_matmul_precision()
        was_deterministic = torch.are_deterministic_algorithms_enabled()
        torch.set_float32_matmul_precision("high" if tf32 else "highest")
        if deterministic:
            # Read by cuBLAS with its first product; two buffers of fixed size instead of whatever is free.
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
            torch.use_deterministic_algorithms(True)
        try:
            yield
        finally:
            torch.set_float32_matmul_precision(precision)
            torch.use_deterministic_algorithms(was_deterministic)

    def measured_flops(self, dtype: torch.dtype) -> float:
        """Speed of a product of square matrices in `dtype`, in FLOP/s, measured in some milliseconds."""
        size = 4096 if self.device.type == "cuda" else 512
        return 2 * size**3 / _product_seconds(size, dtype, self.device)

    def autocast(self, dtype: torch.dtype) -> AbstractContextManager[Any]:
        """A context in which products run in `dtype` while weights stay float32."""
        if dtype == torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=dtype)


def _choose_device(force_device: str | None) -> str:
    available = [
        *(f"cuda:{index}" for index in range(torch.cuda.device_count())),
        *(["mps"] if torch.backends.mps.is_available() else []),
        "cpu",
    ]
    if force_device in (None, "auto", "cuda") and available[0] != "cpu" and "LOCAL_RANK" in os.environ:
        return _device_of_process(available)
    if force_device in (None, "auto"):
        return available[0]
    assert force_device is not None
    if not re.fullmatch(r"cpu|mps|cuda(:\d+)?", force_device):
        raise DeviceError(
            f"device {force_device!r}: expected auto, cpu, cuda, cuda:1 or mps; available here: "
            + ", ".join(available)
        )
    wanted = "cuda:0" if force_device == "cuda" else force_device
    if wanted not in available:
        raise DeviceError(
            f"device {force_device!r} is not available; available here: {', '.join(available)} "
            "(set training.device or --device, or leave it at auto)"
        )
    return wanted


def _device_of_process(available: list[str]) -> str:
    """The device of one of several processes on a machine, each of which has one to itself."""
    number, devices = int(os.environ["LOCAL_RANK"]), available[:-1]
    if number >= len(devices):
        wanted = os.environ.get("LOCAL_WORLD_SIZE", str(number + 1))
        raise DeviceError(
            f"{wanted} processes were started on this machine, but it has {len(devices)} devices "
            f"({', '.join(devices)}); start torchrun with --nproc_per_node={len(devices)}, or train on the CPU with "
            "--device cpu"
        )
    return devices[number]


def _machine_memory_bytes() -> int:
    if hasattr(os, "sysconf"):  # absent on Windows
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return 0


def _bf16_speedup_on_cpu() -> float:
    # 512 is a typical width of small models.
    cpu = torch.device("cpu")
    return _product_seconds(512, torch.float32, cpu) / _product_seconds(512, torch.bfloat16, cpu)


def _product_seconds(size: int, dtype: torch.dtype, device: torch.device) -> float:
    left, right = (torch.ones(size, size, dtype=dtype, device=device) for _ in range(2))
    result = left @ right
    trials = []
    for _ in range(5):
        start = time.perf_counter()
        result = left @ right
        float(result[0, 0])  # waits for a GPU
        trials.append(time.perf_counter() - start)
    return min(trials)  # what other processes disturb is left out


def compile_problem(device: torch.device) -> str | None:
    """Why torch.compile does not work here, or None; found by compiling the smallest thing."""
    try:
        torch.compile(_smallest, dynamic=False)(torch.ones(8, device=device))
    except (RuntimeError, OSError, ImportError) as error:
        # Compilers, headers, drivers: whatever is missing arrives as one of these, with pages of context.
        return str(error).strip().splitlines()[0][:200]
    return None


def _smallest(x: torch.Tensor) -> torch.Tensor:
    return x.sin() + 1.0
