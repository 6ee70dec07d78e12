"""All that is to be measured of a GPU, in one call: ceilings, correctness, training, tokens made, profile, recipes.

    python benchmarks/gpu.py --out docs/measurements/h200          # at most ten minutes; an H100 or H200 is expected
    python benchmarks/gpu.py --out /tmp/tiny --tiny                # every part on what there is, in a minute or two

Each part has a share of the time; what does not fit is left out and said. `results.json` and `results.md` are written
after every part, so that a call that is cut off leaves what it had.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

from benchmarks.gpu_checks import check_against_float64, check_resume, compare_recipes
from benchmarks.gpu_decoding import measure_decoding
from benchmarks.gpu_speed import (
    SIZES,
    TINY_SIZES,
    Size,
    find_host_waits,
    measure_ceilings,
    measure_training,
    profile_kernels,
)
from core.device_manager import DeviceManager
from core.files import atomic_write

VARIANTS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "eager": {"compiled": False},
    "muon": {"optimizer": "muon"},
    "documents": {"document_masking": True},
    "documents, by a mask": {"document_masking": True, "by_mask": True},
    "bf16 residual stream": {"bf16_stream": True},
    "loss in parts of 2^26 scores": {"max_logits": 2**26},
    "loss in parts of 2^30 scores": {"max_logits": 2**30},
    "recomputing": {"gradient_checkpointing": True},
    "deterministic order": {"deterministic": True},
    "fp8": {"fp8": True},
}

SHARES = {
    "ceilings": 0.05,
    "correctness": 0.15,
    "sizes": 0.28,
    "decoding": 0.12,
    "variants": 0.18,
    "profile": 0.06,
    "resume": 0.1,
}
"""Of all the time; recipes get what is left."""


class Run:
    """What was measured so far, and how much time is left."""

    def __init__(self, out: Path, *, minutes: float, tiny: bool, manager: DeviceManager) -> None:
        self.out, self.tiny, self.manager = out, tiny, manager
        self.sizes: dict[str, Size] = TINY_SIZES if tiny else SIZES
        self.results: dict[str, Any] = {"machine": describe_machine(manager), "left_out": []}
        self._seconds = 60 * minutes
        self._started = time.monotonic()
        self._part_ends = self._started

    def begin_part(self, share: float | None) -> None:
        """From now on `is_time_left` is about a part with this share of the time (None = all that is left)."""
        end = self._started + self._seconds
        self._part_ends = end if share is None else min(end, time.monotonic() + share * self._seconds)

    def is_time_left(self, what: str = "") -> bool:
        """Whether the part may begin something more; if not, `what` is noted as left out."""
        is_left = time.monotonic() < self._part_ends
        if not is_left and what:
            self.results["left_out"].append(what)
        return is_left

    def keep(self, part: str, value: Any) -> None:
        """Note a result, and write all of them."""
        self.results[part] = value
        self.results["seconds"] = time.monotonic() - self._started
        atomic_write(self.out / "results.json", json.dumps(self.results, indent=1) + "\n")
        atomic_write(self.out / "results.md", as_markdown(self.results))


def describe_machine(manager: DeviceManager) -> dict[str, Any]:
    """What the figures are of."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    )
    return {
        **manager.get_device_info(),
        "cuda": torch.version.cuda,
        "python": platform.python_version(),
        "processors": os.cpu_count(),
        "commit": commit.stdout.strip() or "unknown",
    }


def run_ceilings(run: Run) -> None:
    """What the device can do."""
    run.keep("ceilings", measure_ceilings(run.manager, tiny=run.tiny))


def run_correctness(run: Run) -> None:
    """Whether each path computes what float64 does."""
    run.keep("correctness", check_against_float64(run.manager, tiny=run.tiny))


def run_sizes(run: Run) -> None:
    """Each size as it would be trained."""
    found = {}
    for name, size in run.sizes.items():
        if run.is_time_left(f"size {name}"):
            found[name] = measured(run, size, parts=True)
            run.keep("sizes", found)


def run_decoding(run: Run) -> None:
    """Tokens made by models of each size."""
    found: dict[str, Any] = {}
    for name, size in run.sizes.items():
        if run.is_time_left(f"decoding {name}"):
            for row in measure_decoding(size, run.manager, tiny=run.tiny):
                found[f"{name}, {row.pop('way')}, {row.pop('rows')}"] = row
                run.keep("decoding", found)


def run_variants(run: Run) -> None:
    """The smallest size with one thing changed; fp8 with the largest one."""
    names = list(run.sizes)
    found = {}
    for variant, options in VARIANTS.items():
        for name in [names[-1]] if "fp8" in options else [names[0]]:
            if run.is_time_left(f"variant {variant}"):
                found[f"{name}, {variant}"] = measured(run, run.sizes[name], **options)
                run.keep("variants", found)


def run_profile(run: Run) -> None:
    """Where the time of a step goes, and whether the host waits in it."""
    run.keep("host_waits", find_host_waits(next(iter(run.sizes.values())), run.manager))
    run.keep("profile", profile_kernels(next(iter(run.sizes.values())), run.manager))


def run_resume(run: Run) -> None:
    """Whether an interrupted run ends as one that was not."""
    is_cuda = run.manager.device.type == "cuda"
    found = []
    for deterministic in (True, False) if is_cuda else (True,):
        if run.is_time_left(f"resume, deterministic={deterministic}"):
            found.append(check_resume(run.manager, deterministic=deterministic, compiled=is_cuda))
            run.keep("resume", found)


def run_recipes(run: Run) -> None:
    """What is learned in equal steps."""
    found = []
    for row in compare_recipes(
        run.manager, tiny=run.tiny, is_time_left=lambda: run.is_time_left("further recipes")
    ):
        found.append(row)
        run.keep("recipes", found)


PARTS: dict[str, Callable[[Run], None]] = {
    "ceilings": run_ceilings,
    "correctness": run_correctness,
    "sizes": run_sizes,
    "decoding": run_decoding,
    "profile": run_profile,
    "resume": run_resume,
    "variants": run_variants,
    "recipes": run_recipes,
}


def measured(run: Run, size: Size, **options: Any) -> dict[str, Any]:
    """As `measure_training`, with half as many rows as often as memory does not suffice."""
    ceiling = run.results.get("ceilings", {}).get("bf16_flops") or run.manager.measured_flops(torch.bfloat16)
    options = {"compiled": run.manager.device.type == "cuda", **options}
    while True:
        try:
            found = measure_training(
                size, run.manager, steps=3 if run.tiny else 8, ceiling_flops=ceiling, **options
            )
        except torch.OutOfMemoryError:
            if size.rows == 1:
                raise
            size = Size(size.model, rows=size.rows // 2, micro_batches=size.micro_batches * 2)
        else:
            return {"rows": size.rows, **found}


def as_markdown(results: dict[str, Any]) -> str:
    """The results for a reader."""
    machine = results["machine"]
    lines = [
        f"# {machine['name']}",
        "",
        (
            f"torch {machine['torch_version']}, CUDA {machine['cuda']}, Python {machine['python']}, commit "
            f"{machine['commit']}; `python benchmarks/gpu.py`, {results['seconds']:.0f} s."
        ),
        "",
        *(f"Left out for lack of time: {what}." for what in results["left_out"]),
        *(f"**{part} failed**: {error}" for part, error in results.get("failed", {}).items()),
        "",
    ]
    for title, key in (
        ("Ceilings", "ceilings"),
        ("Sizes", "sizes"),
        ("Tokens made, by way and rows", "decoding"),
        ("Variants", "variants"),
    ):
        if key in results:
            rows = results[key]
            if key == "ceilings":
                rows = {"measured": {name: f"{value / 1e12:.3g} T/s" for name, value in rows.items()}}
            lines += [f"## {title}", "", *table({"": name, **row} for name, row in rows.items()), ""]
    for title, key in (
        ("Beside float64", "correctness"),
        ("Resume", "resume"),
        ("Recipes", "recipes"),
        ("Profile of two steps", "profile"),
    ):
        if key in results:
            lines += [f"## {title}", "", *table(iter(results[key])), ""]
    if results.get("host_waits") is not None:
        waits = results["host_waits"]
        lines += [
            "## Where the host waits in a step",
            "",
            *(f"- {place}" for place in waits or ["nowhere"]),
            "",
        ]
    return "\n".join(lines)


def table(rows: Iterator[dict[str, Any]]) -> list[str]:
    """Rows of equal keys as lines of Markdown."""
    found = list(rows)
    if not found:
        return []
    names = list(found[0])
    lines = [f"| {' | '.join(name.replace('_', ' ') for name in names)} |", "|---" * len(names) + "|"]
    return lines + [f"| {' | '.join(cell(name, row.get(name)) for name in names)} |" for row in found]


def cell(name: str, value: Any) -> str:
    """A number as it is read best."""
    if value is None:
        return "–"
    if isinstance(value, bool) or not isinstance(value, int | float):
        return str(value).replace("|", "\\|")
    if name.startswith("mfu") or "share" in name:
        return f"{value:.1%}"
    if name.endswith("_bytes"):
        return f"{value / 1e9:.2f} GB"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def main() -> int:
    """Run the parts and say where the results are; 1 if one failed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, required=True, help="directory for results.json and results.md")
    parser.add_argument(
        "--minutes",
        type=float,
        default=9.0,
        help="after these nothing more is begun; what was begun may take another one",
    )
    parser.add_argument("--only", nargs="*", choices=PARTS, help="these parts alone")
    parser.add_argument("--tiny", action="store_true", help="tiny shapes, to try every part on any machine")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1 or mps")
    flags = parser.parse_args()
    flags.out.mkdir(parents=True, exist_ok=True)
    run = Run(flags.out, minutes=flags.minutes, tiny=flags.tiny, manager=DeviceManager(flags.device))
    failed: dict[str, str] = {}
    for name, part in PARTS.items():
        if flags.only and name not in flags.only:
            continue
        run.begin_part(SHARES.get(name))
        if not run.is_time_left(name):
            continue
        started = time.monotonic()
        try:
            part(run)
        except Exception as error:  # noqa: BLE001 - the other parts are worth having; the exit code tells
            traceback.print_exc()
            failed[name] = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
            run.keep("failed", failed)
        print(f"{name}: {time.monotonic() - started:.0f} s", flush=True)
    run.keep("left_out", run.results["left_out"])
    print((flags.out / "results.md").read_text(encoding="utf-8"))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
