"""What it costs a training step that another process is busy, by how long waiting threads spin before they sleep.

    python benchmarks/thread_waiting.py [--seconds 5]

Each row is a fresh process, because the OpenMP runtime reads its environment once. Ratios matter, not milliseconds.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

SPIN_COUNTS = (None, 1_000, 10_000, 50_000)
"""None is the runtime's own default."""


def measure(seconds: float) -> float:
    """Median milliseconds of a training step of 4 x 256 tokens of a 5.9-million-parameter model on CPU."""
    import torch

    from core.device_manager import DeviceManager
    from core.training_config import ModelConfig, TrainingConfig
    from models.transformer_lm import create_model_from_config
    from training.schedules import Horizon
    from training.trainer import Trainer

    shape = ModelConfig(hidden_size=256, num_layers=6, num_attention_heads=4, vocab_size=4096)
    manager = DeviceManager("cpu")
    trainer = Trainer(
        create_model_from_config(shape, seed=0),
        TrainingConfig(batch_size=4),
        manager,
        horizon=Horizon.of(TrainingConfig(), 1_000_000),
        compute_dtype=manager.compute_dtype("auto"),
        output_dir=Path(),
    )
    ids = torch.randint(0, 4096, (4, 256))
    batch = {"input_ids": ids, "labels": ids, "position_ids": torch.arange(256).expand(4, 256)}
    times: list[float] = []
    started = time.monotonic()
    while len(times) < 5 or time.monotonic() - started < seconds:
        times.append(trainer.train_step([batch]).elapsed_seconds)
    return 1000 * statistics.median(times[2:])


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=5.0, help="length of each measurement")
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.child:
        print(measure(flags.seconds))
        return
    print("| looks before sleeping | alone, ms | beside a busy process, ms |\n|---|---|---|")
    for count in SPIN_COUNTS:
        alone = _in_new_process(count, flags.seconds)
        busy = subprocess.Popen([sys.executable, "-c", "while True: pass"])
        try:
            shared = _in_new_process(count, flags.seconds)
        finally:
            busy.kill()
            busy.wait()
        print(f"| {'default' if count is None else f'{count:,}'} | {alone:.0f} | {shared:.0f} |", flush=True)


def _in_new_process(count: int | None, seconds: float) -> float:
    environment = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    if count is not None:
        environment["GOMP_SPINCOUNT"] = str(count)
    command = [sys.executable, __file__, "--child", "--seconds", str(seconds)]
    return float(subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout)


if __name__ == "__main__":
    main()
