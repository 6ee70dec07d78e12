"""Whether what a device computes is right: against float64, after a resume, and by what is learned. For
`benchmarks/gpu.py`; knows no speed."""

import math
import sysconfig
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.gpu_speed import Size, make_trainer, source_of
from core.device_manager import DeviceManager
from core.training_config import ModelConfig, TrainingConfig
from models.attention import takes_documents
from models.float8 import use_float8
from models.hf_layout import load_model
from models.transformer_lm import TransformerLM, create_model_from_config
from training.batches import RowBatches
from training.losses import Batch, count_targets, next_token_loss
from training.prefetch import moved, prepared
from training.schedules import Horizon
from training.session import train_model
from training.trainer import Trainer, mean_loss

CHECKED_SHAPES = {
    "plain": {"num_attention_heads": 4},
    "grouped queries": {"num_attention_heads": 4, "num_kv_heads": 2},
}
PATHS: dict[str, dict[str, Any]] = {
    "fp32": {"dtype": torch.float32},
    "bf16": {"dtype": torch.bfloat16},
    "bf16, compiled": {"dtype": torch.bfloat16, "compiled": True},
    "bf16, documents": {"dtype": torch.bfloat16, "masking": True},
    "bf16, documents by a mask": {"dtype": torch.bfloat16, "masking": True, "by_mask": True},
    "fp16, loss scaled": {"dtype": torch.float16, "scale": 2.0**16},
    "fp8": {"dtype": torch.bfloat16, "fp8": True},
}


def check_against_float64(manager: DeviceManager, *, tiny: bool) -> list[dict[str, Any]]:
    """Loss and gradients of each path on the device beside the same weights in float64 on the CPU.

    Norms, rotations and the loss itself are float32 in both, so differences of 1e-6 are none.
    """
    found = []
    for shape, changes in list(CHECKED_SHAPES.items())[1 if tiny else 0 :]:
        config = ModelConfig(
            hidden_size=256, num_layers=2, vocab_size=512, max_position_embeddings=128, **changes
        )
        size = Size(config, rows=4, micro_batches=1)
        batch = next(source_of(size, mean_document_tokens=30).micro_batches([0]))
        for path, options in PATHS.items():
            row = {"shape": shape, "path": path}
            row |= _errors(config, batch, manager, **options)
            found.append(row)
    return found


def _errors(
    config: ModelConfig,
    batch: Batch,
    manager: DeviceManager,
    *,
    dtype: torch.dtype,
    compiled: bool = False,
    masking: bool = False,
    by_mask: bool = False,
    fp8: bool = False,
    scale: float = 1.0,
) -> dict[str, Any]:
    exact = create_model_from_config(config, seed=5).double()
    exact_loss = next_token_loss(exact, batch, document_masking=masking) / count_targets(batch)
    exact_loss.backward()  # type: ignore[no-untyped-call]

    model = create_model_from_config(config, seed=5).to(manager.device)
    if fp8:
        use_float8(model.blocks)
    if compiled:
        torch.compiler.reset()
        model.compile_blocks()
    is_without_mask = masking and not by_mask and takes_documents(manager.device, dtype, config)
    on_device = moved(prepared(batch, with_documents=is_without_mask), manager.device)
    with manager.numerics(deterministic=False, tf32=False), manager.autocast(dtype):
        loss = next_token_loss(model, on_device, document_masking=masking) / count_targets(batch)
    (loss * scale).backward()
    gradient, expected = (
        torch.cat([p.grad.double().cpu().flatten() for p in m.parameters() if p.grad is not None])
        for m in (model, exact)
    )
    return {
        "without_mask": is_without_mask if masking else None,
        "loss_error": abs(float(loss.detach()) - float(exact_loss.detach())),
        "gradient_relative_error": float((gradient / scale - expected).norm() / expected.norm()),
    }


def check_resume(
    manager: DeviceManager, *, deterministic: bool = True, compiled: bool = True
) -> dict[str, Any]:
    """Whether a run that stopped and went on has the weights of one that did not, bit for bit."""
    config = ModelConfig(
        hidden_size=256,
        num_layers=4,
        num_attention_heads=4,
        vocab_size=512,
        max_position_embeddings=256,
        dropout=0.1,
    )
    source = source_of(Size(config, rows=4, micro_batches=2))
    with tempfile.TemporaryDirectory() as place:

        def train(name: str, **options: Any) -> TransformerLM:
            torch.compiler.reset()  # as in another process
            settings = TrainingConfig.from_dict(
                {
                    "batch_size": 4,
                    "gradient_accumulation_steps": 2,
                    "total_steps": 8,
                    "save_steps": 4,
                    "document_masking": True,
                    "deterministic": deterministic,
                    "compile": "on" if compiled else "off",
                    "optimizer": "muon",
                    "verify_data": False,
                }
            )
            model = create_model_from_config(config, seed=2)
            result = train_model(model, settings, manager, source, output_dir=Path(place, name), **options)
            return load_model(result.final_directory)

        straight, again = train("straight"), train("again")
        Path(place, "resumed").mkdir()
        checkpoint = Path(place, "straight", "step_4").rename(Path(place, "resumed", "step_4"))
        resumed = train("resumed", resume_from_checkpoint=checkpoint)
    return {
        "deterministic": deterministic,
        "compiled": compiled,
        "repeated_is_bit_exact": _are_equal(straight, again),
        "resumed_is_bit_exact": _are_equal(straight, resumed),
        "largest_difference": max(
            float((p - q).abs().max().detach())
            for p, q in zip(straight.parameters(), resumed.parameters(), strict=True)
        ),
    }


def _are_equal(one: TransformerLM, other: TransformerLM) -> bool:
    return all(torch.equal(p, q) for p, q in zip(one.parameters(), other.parameters(), strict=True))


class ByteRows:
    """The source code of this Python's standard library as rows of bytes: text that every machine has."""

    fingerprint = "bytes of the standard library"
    tokenizer_directory = None

    def __init__(self, *, context: int, held_out: bool, most_bytes: int) -> None:
        files = sorted(Path(sysconfig.get_path("stdlib")).rglob("*.py"))
        chosen = [
            path
            for number, path in enumerate(path for path in files if "site-packages" not in path.parts)
            if (number % 20 == 0) == held_out
        ]
        text, size = [], 0
        for path in chosen:
            text.append(path.read_bytes())
            size += len(text[-1])
            if size >= most_bytes:
                break
        stream = np.frombuffer(b"\0".join(text), dtype=np.uint8)
        self._rows = stream[: (len(stream) - 1) // context * context + 1]
        self._context = context

    def __len__(self) -> int:
        return (len(self._rows) - 1) // self._context

    def batch(self, indices: Any) -> dict[str, np.ndarray[Any, Any]]:
        """Rows by number; the label of a byte is the next one."""
        starts = np.asarray(indices)[:, None] * self._context + np.arange(self._context)
        return {
            "input_ids": self._rows[starts].astype(np.int64),
            "labels": self._rows[starts + 1].astype(np.int64),
            "position_ids": np.broadcast_to(np.arange(self._context), starts.shape).copy(),
        }


RECIPES: dict[str, dict[str, Any]] = {
    "adamw, cosine, 1e-3": {"optimizer": "adamw", "schedule": "cosine", "learning_rate": 1e-3},
    "adamw, cosine, 3e-3": {"optimizer": "adamw", "schedule": "cosine", "learning_rate": 3e-3},
    "muon, linear, 3e-3": {"optimizer": "muon", "schedule": "linear", "learning_rate": 3e-3},
    "muon, linear, 3e-3, bf16 stream": {
        "optimizer": "muon",
        "schedule": "linear",
        "learning_rate": 3e-3,
        "bf16_stream": True,
    },
    "muon, linear, 3e-3, fp8": {
        "optimizer": "muon",
        "schedule": "linear",
        "learning_rate": 3e-3,
        "fp8": True,
    },
}


def compare_recipes(
    manager: DeviceManager, *, tiny: bool, is_time_left: Callable[[], bool]
) -> Iterator[dict[str, Any]]:
    """Bits per byte on held-out files after equal steps from equal weights, recipe by recipe."""
    context, rows, steps = (64, 4, 12) if tiny else (1024, 32, 400)
    layers, width, heads = (2, 64, 4) if tiny else (8, 512, 4)
    size = Size(
        ModelConfig(
            num_layers=layers,
            hidden_size=width,
            num_attention_heads=heads,
            vocab_size=256,
            max_position_embeddings=context,
        ),
        rows=rows,
        micro_batches=1,
    )
    most = 200_000 if tiny else 30_000_000
    train = ByteRows(context=context, held_out=False, most_bytes=most)
    held_out = ByteRows(context=context, held_out=True, most_bytes=most // 10)
    for name, settings in RECIPES.items():
        if not is_time_left():
            return
        torch.compiler.reset()
        trainer = make_trainer(size, manager, compiled=manager.device.type == "cuda", **settings)
        trainer.horizon = Horizon.of(trainer.config, steps)
        started = time.perf_counter()
        trainer.fit(RowBatches(train, batch_size=rows, seed=1), [])  # type: ignore[arg-type]
        seconds = time.perf_counter() - started
        yield {
            "recipe": name,
            "steps": steps,
            "bytes": steps * rows * context,
            "seconds": seconds,
            "bits_per_byte": _bits_per_byte(trainer, held_out, rows),
        }


def _bits_per_byte(trainer: Trainer, rows: ByteRows, batch_size: int) -> float:
    source = RowBatches(rows, batch_size=batch_size, seed=1)  # type: ignore[arg-type]
    some = [next(source.micro_batches([number])) for number in range(min(20, len(rows) // batch_size))]
    trainer.model.eval()
    return mean_loss(trainer.summed_loss, some, None).loss_nats / math.log(2)
