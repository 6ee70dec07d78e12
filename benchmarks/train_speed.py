"""Training steps on this machine, beside the loops that people use otherwise: same shape, same batch, same optimizer.

Each contender runs in a process of its own, in turns, several rounds; the fastest quarter of its steps counts, because
what else runs on the machine slows steps down and speeds none up. Ratios are what to read.

    python benchmarks/train_speed.py                     # shape S, about four minutes on two cores
    python benchmarks/train_speed.py --shape M --rounds 3
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

if __package__ in (None, ""):
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

SHAPES: dict[str, tuple[int, dict[str, Any], int]] = {
    # Rows in a batch, and the model.
    "Q": (4, {"hidden_size": 256, "num_layers": 6, "num_attention_heads": 4, "vocab_size": 4096}, 256),
    "S": (12, {"hidden_size": 384, "num_layers": 6, "num_attention_heads": 6, "vocab_size": 8192}, 256),
    "M": (4, {"hidden_size": 768, "num_layers": 12, "num_attention_heads": 12, "vocab_size": 32000}, 512),
}

Step = Callable[[], object]


def bloomery(shape: str, *, compiled: bool, optimizer: str = "adamw") -> Step:
    """This project's trainer, as its session sets it up."""
    import torch

    from core.device_manager import DeviceManager
    from core.memory import keep_freed_memory
    from core.training_config import ModelConfig, TrainingConfig
    from models.transformer_lm import create_model_from_config
    from training.schedules import Horizon
    from training.trainer import Trainer

    rows, settings, context = SHAPES[shape]
    manager = DeviceManager()
    if manager.device.type == "cpu":
        keep_freed_memory()
    config = TrainingConfig.from_dict({"batch_size": rows, "optimizer": optimizer})
    model = create_model_from_config(ModelConfig(max_position_embeddings=context, **settings), seed=0)
    trainer = Trainer(
        model.to(manager.device),
        config,
        manager,
        horizon=Horizon.of(config, 1_000_000),
        compute_dtype=manager.compute_dtype("auto"),
        compiled=compiled,
        output_dir=Path(),
    )
    ids = _random_ids(shape)
    positions = torch.arange(context).expand(rows, context)
    batch = {
        "input_ids": ids[:, :-1].contiguous(),
        "labels": ids[:, 1:].contiguous(),
        "position_ids": positions,
    }
    return lambda: trainer.train_step([batch])


def transformers_loop(shape: str, *, bf16: bool, compiled: bool) -> Step:
    """A Llama of transformers of the same size in a plain loop with torch's fused AdamW."""
    import torch

    from benchmarks.peer_models import llama_of_transformers
    from core.device_manager import DeviceManager

    _, settings, context = SHAPES[shape]
    device = DeviceManager().device
    torch.manual_seed(0)
    llama = llama_of_transformers({**settings, "max_position_embeddings": context})
    model = llama.to(device)
    if compiled:
        model.compile()
    ids = _random_ids(shape)[:, :-1].to(device)
    return _plain_step(model, lambda: model(input_ids=ids, labels=ids).loss, bf16=bf16)


def litgpt_loop(shape: str, *, bf16: bool) -> Step:
    """litgpt's model of the same size in a plain loop (pip install litgpt)."""
    import torch

    from benchmarks.peer_models import llama_of_litgpt

    _, settings, context = SHAPES[shape]
    torch.manual_seed(0)
    model = llama_of_litgpt({**settings, "max_position_embeddings": context})
    return _plain_step(model, _loss_of_all_scores(model, shape), bf16=bf16)


def nanogpt_loop(shape: str) -> Step:
    """nanoGPT as it trains on a CPU: the GPT-2 shape in float32, all scores at once. It is no package, so the model is
    ours of that shape, eager: the same operations."""
    from core.training_config import ModelConfig
    from models.transformer_lm import create_model_from_config

    _, settings, context = SHAPES[shape]
    gpt2 = dict.fromkeys(("use_rms_norm", "use_swiglu", "use_rope_embeddings", "use_qk_norm"), False)
    config = ModelConfig(max_position_embeddings=context, use_bias=True, **settings, **gpt2)
    model = create_model_from_config(config, seed=0)
    return _plain_step(model, _loss_of_all_scores(model, shape), bf16=False)


def _loss_of_all_scores(model: Any, shape: str) -> Callable[[], Any]:
    import torch

    ids = _random_ids(shape)

    def loss() -> Any:
        logits = model(ids[:, :-1]).float()
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten())

    return loss


def _plain_step(model: Any, loss_of_batch: Callable[[], Any], *, bf16: bool) -> Step:
    import torch

    optimizer = torch.optim.AdamW(
        model.parameters(), lr=1e-3, weight_decay=0.1, betas=(0.9, 0.95), fused=True
    )
    kind = next(model.parameters()).device.type

    def step() -> None:
        with torch.autocast(kind, dtype=torch.bfloat16, enabled=bf16):
            loss = loss_of_batch()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        float(loss.detach())

    return step


CONTENDERS: dict[str, Callable[[str], Step]] = {
    "bloomery, compiled": lambda shape: bloomery(shape, compiled=True),
    "bloomery, eager": lambda shape: bloomery(shape, compiled=False),
    "bloomery, compiled, muon": lambda shape: bloomery(shape, compiled=True, optimizer="muon"),
    "transformers fp32": lambda shape: transformers_loop(shape, bf16=False, compiled=False),
    "transformers bf16": lambda shape: transformers_loop(shape, bf16=True, compiled=False),
    "transformers bf16, compiled": lambda shape: transformers_loop(shape, bf16=True, compiled=True),
    "litgpt fp32": lambda shape: litgpt_loop(shape, bf16=False),
    "litgpt bf16": lambda shape: litgpt_loop(shape, bf16=True),
    "nanoGPT's shape and loop, fp32": nanogpt_loop,
}


def _random_ids(shape: str) -> Any:
    import torch

    rows, settings, context = SHAPES[shape]
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, settings["vocab_size"], (rows, context + 1), generator=generator)


def run_child(name: str, shape: str, seconds: float) -> None:
    """Print the seconds of each step, of the first two together, and the peak memory, as JSON."""
    from core.threads import share_the_machine

    if name.startswith("bloomery"):
        share_the_machine()  # the others wait for their threads as they do
    step = CONTENDERS[name](shape)
    begun = time.perf_counter()
    step(), step()
    first = time.perf_counter() - begun
    times: list[float] = []
    begun = time.perf_counter()
    while len(times) < 4 or time.perf_counter() - begun < seconds:
        started = time.perf_counter()
        step()
        times.append(time.perf_counter() - started)
    from core.device_manager import DeviceManager

    print(json.dumps({"steps": times, "first": first, "peak": DeviceManager().peak_memory_bytes()}))


def _in_new_process(name: str, shape: str, seconds: float) -> dict[str, Any] | None:
    command = [
        sys.executable,
        "-W",
        "ignore",
        __file__,
        "--child",
        name,
        "--shape",
        shape,
        "--seconds",
        str(seconds),
    ]
    root = str(Path(__file__).resolve().parents[1])
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": root}
    )
    if done.returncode:
        print(f"{name}: left out ({done.stderr.strip().splitlines()[-1]})", file=sys.stderr)
        return None
    result: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return result


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--shape", choices=SHAPES, default="S", help="what to train")
    parser.add_argument("--seconds", type=float, default=6.0, help="length of each measurement")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each contender")
    parser.add_argument("--only", nargs="*", default=[], help="parts of the names of those to run")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    flags = parser.parse_args()
    if flags.child:
        run_child(flags.child, flags.shape, flags.seconds)
        return
    names = [n for n in CONTENDERS if not flags.only or any(part in n for part in flags.only)]
    results: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    for _ in range(flags.rounds):
        for name in names:
            if (found := _in_new_process(name, flags.shape, flags.seconds)) is not None:
                results[name].append(found)
    rows, _, context = SHAPES[flags.shape]
    print(f"shape {flags.shape}: {rows} x {context} tokens a step, {SHAPES[flags.shape][1]}\n")
    print("| | ms a step | tokens/s | of ours | peak MB | first two, s |\n|---|---|---|---|---|---|")
    ours: float | None = None
    for name, rounds in results.items():
        if not rounds:
            continue
        times = sorted(seconds for found in rounds for seconds in found["steps"])
        milliseconds = 1000 * statistics.median(times[: max(1, len(times) // 2)])
        ours = ours or milliseconds
        tokens = rows * context / milliseconds * 1000
        print(
            f"| {name} | {milliseconds:.0f} | {tokens:,.0f} | {ours / milliseconds:.2f} | "
            f"{max(found['peak'] for found in rounds) / 1e6:,.0f} | {min(found['first'] for found in rounds):.1f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
