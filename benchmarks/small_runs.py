"""What models of 0.4 to 12 million parameters reach in minutes: whole trainings, and the law of losses fitted to them.

`training/scaling_law.py` has the constants. The quickstart's rows, tokenizer and recipe; bits per byte on all of the
validation split. An hour on one core; runs that stand in the results file are not made again.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if __package__ in (None, ""):
    sys.path.insert(0, str(ROOT))

GRID = (
    (2, 64, 128),
    (3, 128, 128),
    (2, 64, 512),
    (3, 128, 512),
    (4, 192, 128),
    (4, 256, 128),
    (4, 192, 512),
    (2, 64, 2048),
    (4, 256, 512),
    (3, 128, 1280),
    (6, 384, 128),
)
"""Layers, width, steps."""

CONTEXT, ROWS = 256, 8


def train(layers: int, width: int, steps: int, data: Path) -> dict[str, Any]:
    """One run to its end, and what it reached."""
    import numpy as np
    import torch

    from core.device_manager import DeviceManager
    from core.training_config import ModelConfig, TrainingConfig
    from data_processing.rows.token_rows import TokenRows
    from models.counting import count_parameters
    from models.transformer_lm import create_model_from_config
    from tokenization.tokenizer import Tokenizer
    from training.batches import RowBatches, rows_in_order
    from training.losses import next_token_loss
    from training.schedules import rate_beside_muon
    from training.session import train_model
    from training.trainer import mean_loss

    tokenizer = Tokenizer.from_file(data / "tokenizer")
    shape = ModelConfig(
        hidden_size=width,
        num_layers=layers,
        num_attention_heads=width // 64,
        max_position_embeddings=CONTEXT,
        vocab_size=tokenizer.vocab_size,
    )
    never = steps + 1
    config = TrainingConfig(
        batch_size=ROWS,
        total_steps=steps,
        learning_rate=rate_beside_muon(width),
        eval_steps=never,
        save_steps=never,
    )
    model = create_model_from_config(shape, seed=config.seed)
    source = RowBatches(TokenRows(data / "dataset" / "train"), batch_size=ROWS, seed=config.seed)
    with tempfile.TemporaryDirectory() as directory:
        out = Path(directory) / "pretrain"
        train_model(model, config, DeviceManager(), source, output_dir=out, tokenizer=tokenizer)
    reached = mean_loss(
        lambda batch: next_token_loss(model, batch, document_masking=False),
        rows_in_order(TokenRows(data / "dataset" / "validation"), batch_size=16),
        torch.from_numpy(np.asarray(tokenizer.byte_lengths).astype(np.int64)),
    )
    return {
        "run": [layers, width, steps],
        "parameters": count_parameters(shape).total,
        "tokens": steps * ROWS * CONTEXT,
        "unique_tokens": len(source.rows) * CONTEXT,
        "bits_per_byte": reached.bits_per_byte,
    }


def fit(runs: list[dict[str, Any]]) -> tuple[float, float, float]:
    """E, A and B of the law with its published exponents, by least squares."""
    import numpy as np

    from training.scaling_law import PARAMETER_EXPONENT, TOKEN_EXPONENT, worth_of_tokens

    parts = [
        (
            1.0,
            run["parameters"] ** -PARAMETER_EXPONENT,
            worth_of_tokens(run["tokens"], run["unique_tokens"]) ** -TOKEN_EXPONENT,
        )
        for run in runs
    ]
    found, *_ = np.linalg.lstsq(np.array(parts), np.array([run["bits_per_byte"] for run in runs]))
    irreducible, parameter_factor, token_factor = map(float, found)
    return irreducible, parameter_factor, token_factor


def main() -> None:
    """Train what is missing; print each run beside the law, and the law."""
    from benchmarks.loss_per_minute import build_data
    from core.threads import share_the_machine
    from training.scaling_law import SMALL_MARGIN, small_loss_range

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=ROOT / "runs/loss_per_minute", help="a run's directory")
    parser.add_argument("--results", type=Path, default=ROOT / "runs/small_runs.jsonl")
    flags = parser.parse_args()
    share_the_machine()
    build_data(flags.data)
    flags.results.parent.mkdir(parents=True, exist_ok=True)
    known = flags.results.read_text(encoding="utf-8").splitlines() if flags.results.exists() else []
    runs = [json.loads(line) for line in known]
    for layers, width, steps in GRID:
        if [layers, width, steps] in [run["run"] for run in runs]:
            continue
        runs.append(train(layers, width, steps, flags.data))
        with flags.results.open("a", encoding="utf-8") as file:
            file.write(json.dumps(runs[-1]) + "\n")
    print("| layers x width | parameters | tokens | bits per byte | by the law |\n|---|---|---|---|---|")
    for run in runs:
        layers, width, _ = run["run"]
        found = small_loss_range(run["parameters"], run["tokens"], run["unique_tokens"])
        law = "" if found is None else f"{found[0] / (1.0 - SMALL_MARGIN):.3f}"
        print(
            f"| {layers} x {width} | {run['parameters'] / 1e6:.2f} M | {run['tokens'] / 1e6:.2f} M | "
            f"{run['bits_per_byte']:.3f} | {law} |"
        )
    print("\nE, A, B fitted to these runs: {:.3f}, {:.1f}, {:.1f}".format(*fit(runs)))


if __name__ == "__main__":
    main()
