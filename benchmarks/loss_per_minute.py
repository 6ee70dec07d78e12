"""What equal minutes on equal text teach: ours beside the recipes that people use otherwise, in bits per byte.

Each contender trains in a process of its own for the same minutes, compiling included, on the same rows of the same
tokenizer, and is then asked about the same held-out text. Every schedule follows the share of the time that is
gone, so that each run is at its end when its time is; the published numbers of steps would not be reached.

    python benchmarks/loss_per_minute.py --minutes 5 --seeds 3 --shape S  # without: 2 minutes each, one seed
    taskset -c 0 python benchmarks/loss_per_minute.py --threads 1       # beside other work, on a core of one's own

Needs `pip install transformers accelerate litgpt`; a peer that is missing is left out, and said. nanochat is not among
them: stated with our parts, its recipe would be our Muon under another name.
"""

import argparse
import dataclasses
import itertools
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
if __package__ in (None, ""):
    sys.path.insert(0, str(ROOT))

SHAPES = {
    "XS": {"hidden_size": 256, "num_layers": 6, "num_attention_heads": 4},
    "S": {"hidden_size": 384, "num_layers": 6, "num_attention_heads": 6},
}
CONTEXT = 256

SummedLoss = Callable[[dict[str, Any]], Any]
"""From a batch to the sum of -ln p(label)."""


@dataclasses.dataclass(frozen=True)
class Task:
    """What every contender is given."""

    shape: str
    data: Path
    seconds: float
    seed: int
    batch_size: int

    def model_settings(self) -> dict[str, Any]:
        """The shape as `ModelConfig` has it."""
        from tokenization.tokenizer import Tokenizer

        num_tokens = Tokenizer.from_file(self.data / "tokenizer").vocab_size
        return {**SHAPES[self.shape], "max_position_embeddings": CONTEXT, "vocab_size": num_tokens}

    def rows(self, split: str) -> Any:
        """The rows of a split."""
        from data_processing.rows.token_rows import TokenRows

        return TokenRows(self.data / "dataset" / split)

    def batches(self) -> Iterator[dict[str, Any]]:
        """Training batches without end, the same ones for all."""
        from training.batches import RowBatches

        source = RowBatches(self.rows("train"), batch_size=self.batch_size, seed=self.seed)
        return source.micro_batches(itertools.count())


@dataclasses.dataclass(frozen=True)
class Recipe:
    """AdamW and its schedule, as a peer publishes them."""

    learning_rate: float
    end_share: float
    """The last learning rate, as a share of the first."""
    warmup_share: float
    cosine: bool
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.1

    def share(self, progress: float) -> float:
        """Share of the peak learning rate at this share of the run."""
        if progress < self.warmup_share:
            return max(progress, 1e-3) / self.warmup_share
        left = 1.0 - (progress - self.warmup_share) / (1.0 - self.warmup_share)
        fall = 0.5 * (1.0 - math.cos(math.pi * left)) if self.cosine else left
        return self.end_share + fall * (1.0 - self.end_share)


def bloomery(
    task: Task, *, settings: dict[str, Any], initializer_range: float | None = None
) -> tuple[SummedLoss, int]:
    """This project's whole training stage: plan, compiling, checkpoints and all, with the quickstart's settings."""
    from core.device_manager import DeviceManager
    from core.training_config import ModelConfig, TrainingConfig
    from models.transformer_lm import create_model_from_config
    from tokenization.tokenizer import Tokenizer
    from training.batches import RowBatches
    from training.losses import next_token_loss
    from training.schedules import rate_beside_muon
    from training.session import train_model

    shipped = json.loads((ROOT / "configs/quickstart/training_config.json").read_text(encoding="utf-8"))
    rate = rate_beside_muon(SHAPES[task.shape]["hidden_size"])
    own = {"seed": task.seed, "time_budget_seconds": task.seconds, "learning_rate": rate}
    config = TrainingConfig.from_dict({**shipped, **own, **settings})
    weights = {} if initializer_range is None else {"initializer_range": initializer_range}
    shape = ModelConfig.from_dict({**task.model_settings(), **weights})
    model = create_model_from_config(shape, seed=task.seed)
    source = RowBatches(task.rows("train"), batch_size=config.batch_size, seed=task.seed)
    manager = DeviceManager()
    with tempfile.TemporaryDirectory() as directory:
        result = train_model(
            model.to(manager.device),
            config,
            manager,
            source,
            output_dir=Path(directory) / "pretrain",
            tokenizer=Tokenizer.from_file(task.data / "tokenizer"),
        )
    return lambda batch: next_token_loss(model, batch, document_masking=False), result.num_steps


def nanogpt(task: Task) -> tuple[SummedLoss, int]:
    """nanoGPT's settings for small models on a CPU (its README and config/train_shakespeare_char.py): the GPT-2 shape,
    float32, AdamW with betas 0.9 and 0.99, 1e-3 falling to a tenth by a cosine, no dropout."""
    from core.training_config import ModelConfig
    from models.transformer_lm import create_model_from_config

    gpt2 = dict.fromkeys(("use_rms_norm", "use_swiglu", "use_rope_embeddings", "use_qk_norm"), False)
    settings = {**task.model_settings(), **gpt2, "use_bias": True}
    model = create_model_from_config(ModelConfig.from_dict(settings), seed=task.seed)
    recipe = Recipe(1e-3, end_share=0.1, warmup_share=0.02, cosine=True, betas=(0.9, 0.99))
    return _plain_loop(task, model, model, recipe, bf16=False)


def transformers_loop(task: Task, *, learning_rate: float) -> tuple[SummedLoss, int]:
    """A Llama of transformers in a plain loop: bf16 autocast, fused AdamW, a cosine to a tenth."""
    model = _llama(task)
    recipe = Recipe(learning_rate, end_share=0.1, warmup_share=0.02, cosine=True)
    return _plain_loop(task, model, lambda ids: model(input_ids=ids).logits, recipe, bf16=True)


def litgpt_loop(task: Task, *, learning_rate: float) -> tuple[SummedLoss, int]:
    """litgpt's model as its `pretrain` command trains it: bf16-mixed, betas 0.9 and 0.95, a cosine to a tenth."""
    import lightning
    import torch
    from litgpt.pretrain import initialize_weights

    from benchmarks.peer_models import llama_of_litgpt

    torch.manual_seed(task.seed)
    settings = task.model_settings()
    model = llama_of_litgpt(settings)
    fabric = lightning.Fabric(accelerator="cpu", devices=1)
    initialize_weights(fabric, model, n_layer=settings["num_layers"], n_embd=settings["hidden_size"])
    recipe = Recipe(learning_rate, end_share=0.1, warmup_share=0.02, cosine=True)
    return _plain_loop(task, model, model, recipe, bf16=True)


def transformers_trainer(task: Task, *, learning_rate: float | None) -> tuple[SummedLoss, int]:
    """transformers' Trainer on a Llama: AdamW, linear to zero, bf16; None = its own default learning rate (5e-5)."""
    import torch
    from transformers import Trainer, TrainerCallback, TrainingArguments

    started = time.monotonic()
    model, rows = _llama(task), task.rows("train")

    class Rows(torch.utils.data.Dataset[Any]):
        def __len__(self) -> int:
            return len(rows)

        def __getitem__(self, index: int) -> dict[str, Any]:
            ids = torch.from_numpy(rows.batch([index])["input_ids"][0])
            return {"input_ids": ids, "labels": ids}

    def trainer(seconds: float, max_steps: int, directory: str) -> Any:
        class EndOnTime(TrainerCallback):  # type: ignore[misc, unused-ignore]
            def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
                control.should_training_stop |= time.monotonic() - started > seconds

        chosen = {} if learning_rate is None else {"learning_rate": learning_rate}
        arguments = TrainingArguments(
            output_dir=directory,
            per_device_train_batch_size=task.batch_size,
            max_steps=max_steps,
            lr_scheduler_type="linear",
            bf16=True,
            use_cpu=not torch.cuda.is_available(),
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
            seed=task.seed,
            **chosen,
        )
        return Trainer(model=model, args=arguments, train_dataset=Rows(), callbacks=[EndOnTime()])

    with tempfile.TemporaryDirectory() as directory:
        weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
        trainer(math.inf, 3, directory).train()
        begun = time.monotonic()
        trainer(math.inf, 8, directory).train()
        step_seconds = (time.monotonic() - begun) / 8
        model.load_state_dict(weights)
        # The measurement is not counted: it is told nothing about time budgets.
        started = time.monotonic()
        max_steps = max(1, int(task.seconds / step_seconds))
        result = trainer(task.seconds, max_steps, directory).train()
    model.eval()
    return _summed_loss_of(lambda ids: model(input_ids=ids).logits), int(result.global_step)


CONTENDERS: dict[str, Callable[[Task], tuple[SummedLoss, int]]] = {
    "bloomery": lambda task: bloomery(task, settings={}),
    "bloomery, AdamW and cosine": lambda task: bloomery(
        task,
        settings={
            "optimizer": "adamw",
            "schedule": "cosine",
            "learning_rate": 0.003,
            "min_learning_rate": 0.0003,
            "batch_size": task.batch_size,
        },
        initializer_range=math.sqrt(0.4 / SHAPES[task.shape]["hidden_size"]),
    ),
    "nanoGPT's recipe": nanogpt,
    "transformers Trainer, 5e-5 (its default)": lambda task: transformers_trainer(task, learning_rate=None),
    "transformers Trainer, 3e-3": lambda task: transformers_trainer(task, learning_rate=3e-3),
    "transformers loop, 3e-3": lambda task: transformers_loop(task, learning_rate=3e-3),
    "litgpt, 4e-4 (its default)": lambda task: litgpt_loop(task, learning_rate=4e-4),
    "litgpt, 3e-3": lambda task: litgpt_loop(task, learning_rate=3e-3),
}


def _llama(task: Task) -> Any:
    import torch

    from benchmarks.peer_models import llama_of_transformers

    torch.manual_seed(task.seed)
    return llama_of_transformers(task.model_settings())


def _plain_loop(
    task: Task, model: Any, logits_of: Callable[[Any], Any], recipe: Recipe, *, bf16: bool
) -> tuple[SummedLoss, int]:
    """Train until the time is over; the learning rate follows the share of it that is gone."""
    import torch

    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    optimizer = torch.optim.AdamW(
        [
            {"params": matrices, "weight_decay": recipe.weight_decay},
            {"params": vectors, "weight_decay": 0.0},
        ],
        lr=recipe.learning_rate,
        betas=recipe.betas,
        fused=True,
    )
    batches = task.batches()
    started, steps = time.monotonic(), 0
    while (progress := (time.monotonic() - started) / task.seconds) < 1.0:
        for group in optimizer.param_groups:
            group["lr"] = recipe.learning_rate * recipe.share(progress)
        batch = next(batches)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
            logits = logits_of(batch["input_ids"])
        loss: Any = torch.nn.functional.cross_entropy(
            logits.float().flatten(0, 1), batch["labels"].flatten(), ignore_index=-100
        )
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        steps += 1
    model.eval()
    return _summed_loss_of(logits_of), steps


def _summed_loss_of(logits_of: Callable[[Any], Any]) -> SummedLoss:
    def summed_loss(batch: dict[str, Any]) -> Any:
        from torch.nn.functional import cross_entropy

        logits = logits_of(batch["input_ids"]).float()
        return cross_entropy(
            logits.flatten(0, 1), batch["labels"].flatten(), ignore_index=-100, reduction="sum"
        )

    return summed_loss


def run_child(name: str, task: Task, threads: int | None) -> None:
    """Train one contender; print its bits per byte, steps, seconds and peak memory as JSON."""
    from core.threads import share_the_machine

    share_the_machine()  # for all: two cores that others use too would otherwise measure how threads wait
    import numpy as np
    import torch

    from core.device_manager import DeviceManager
    from tokenization.tokenizer import Tokenizer
    from training.batches import rows_in_order
    from training.trainer import mean_loss

    if threads is not None:
        torch.set_num_threads(threads)
    begun, used = time.monotonic(), time.process_time()
    summed_loss, steps = CONTENDERS[name](task)
    result: dict[str, Any] = {
        "steps": steps,
        "seconds": time.monotonic() - begun,
        "processor_seconds": time.process_time() - used,
        "peak_bytes": DeviceManager().peak_memory_bytes(),
    }
    lengths = torch.from_numpy(
        np.asarray(Tokenizer.from_file(task.data / "tokenizer").byte_lengths).astype(np.int64)
    )
    for split in ("validation", "test"):
        held_out: Iterable[Any] = rows_in_order(task.rows(split), batch_size=16)
        result[split] = mean_loss(summed_loss, held_out, lengths).bits_per_byte
    print(json.dumps(result))


def _in_new_process(name: str, task: Task, threads: int | None) -> dict[str, Any] | None:
    command = [sys.executable, "-W", "ignore", __file__, "--child", name, "--data", str(task.data)]
    command += ["--shape", task.shape, "--minutes", str(task.seconds / 60), "--first-seed", str(task.seed)]
    command += ["--batch-size", str(task.batch_size)]
    command += [] if threads is None else ["--threads", str(threads)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    if threads is not None:
        environment["OMP_NUM_THREADS"] = str(threads)
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        print(f"{name}: left out ({done.stderr.strip().splitlines()[-1]})", file=sys.stderr, flush=True)
        return None
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def build_data(directory: Path) -> None:
    """The quickstart's rows and tokenizer, if they are not there."""
    if (directory / "dataset").is_dir():
        return
    command = [sys.executable, str(ROOT / "scripts/train_llm_from_scratch.py"), "--until", "dataset"]
    command += ["--config-dir", str(ROOT / "configs/quickstart"), f"run.dir={directory}"]
    subprocess.run(command, check=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=2.0, help="of training for each contender and seed")
    parser.add_argument("--seeds", type=int, default=1, help="trainings of each contender")
    parser.add_argument("--first-seed", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--shape", choices=SHAPES, default="XS", help="what to train")
    parser.add_argument(
        "--batch-size", type=int, default=4, help="rows in a step of AdamW's recipes; Muon's has its own"
    )
    parser.add_argument("--data", type=Path, default=ROOT / "runs/loss_per_minute", help="a run's directory")
    parser.add_argument("--threads", type=int, help="of each training; default: torch's")
    parser.add_argument("--only", nargs="*", default=[], help="parts of the names of those to run")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    flags = parser.parse_args()
    task = Task(flags.shape, flags.data, 60 * flags.minutes, flags.first_seed, flags.batch_size)
    if flags.child:
        run_child(flags.child, task, flags.threads)
        return
    build_data(flags.data)
    names = [n for n in CONTENDERS if not flags.only or any(part in n for part in flags.only)]
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for seed, name in itertools.product(range(1, flags.seeds + 1), names):
        if (found := _in_new_process(name, dataclasses.replace(task, seed=seed), flags.threads)) is not None:
            results[name].append(found)
            print(f"{name}, seed {seed}: {json.dumps(found)}", file=sys.stderr, flush=True)
    print(f"{flags.minutes:g} minutes each, shape {flags.shape}, rows of {CONTEXT} tokens\n")
    print("| | steps | bits per byte: validation | test | peak MB |\n|---|---|---|---|---|")
    for name, runs in results.items():
        if runs:
            print(
                f"| {name} | {statistics.mean(r['steps'] for r in runs):,.0f} | {_spread(runs, 'validation')} | "
                f"{_spread(runs, 'test')} | {max(r['peak_bytes'] for r in runs) / 1e6:,.0f} |"
            )


def _spread(runs: list[dict[str, Any]], split: str) -> str:
    values = [run[split] for run in runs]
    half = (max(values) - min(values)) / 2
    return f"{statistics.mean(values):.3f}" + (f" ± {half:.3f}" if len(values) > 1 else "")


if __name__ == "__main__":
    main()
