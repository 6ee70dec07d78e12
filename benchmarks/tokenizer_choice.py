"""Which tokenizer lets a small model predict text best: bits per byte after equal small trainings.

    python benchmarks/tokenizer_choice.py --data DIR                      # about 33 minutes of one core
    python benchmarks/tokenizer_choice.py --data DIR --same-text          # as many steps as the same text takes

DIR holds `books`, `text` and `markdown` (BLOOMERY_REAL_DATA is taken where the flag is missing); code is the standard
library of this Python. Held out are whole files, and one edition of each book is read. Every variant trains the same
model from the same seeds on the same number of tokens. Losses a token cannot be compared between vocabularies; bits
per byte can.
"""

import argparse
import hashlib
import itertools
import json
import os
import statistics
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import torch

from core.device_manager import DeviceManager
from core.training_config import ModelConfig, TrainingConfig
from data_processing.dataset_builder import DatasetBuilder
from data_processing.rows.token_rows import TokenRows
from data_processing.sources.default_corpus import module_files
from evaluation.perplexity import evaluate_rows
from models.transformer_lm import create_model_from_config
from tokenization.tokenizer import Tokenizer
from tokenization.tokenizer_trainer import TokenizerTrainer
from training.batches import RowBatches
from training.pretraining_trainer import PretrainingTrainer

VARIANTS: Mapping[str, dict[str, Any]] = {
    "single digits, by script": {"split_digits": True, "split_by_unicode_script": True},
    "joined digits, by script": {"split_digits": False, "split_by_unicode_script": True},
    "single digits, mixed scripts": {"split_digits": True, "split_by_unicode_script": False},
    "joined digits, mixed scripts": {"split_digits": False, "split_by_unicode_script": False},
    "byte_bpe, digits by three": {"model_type": "byte_bpe", "split_digits": False},
}
"""The SentencePiece BPE of the defaults with its two switches, and byte-level BPE over GPT-4's words."""

CONTEXT_TOKENS = 256
SHAPE = {"hidden_size": 256, "num_layers": 4, "num_attention_heads": 4}
BATCH_ROWS = 4
LEARNING_RATE = 3e-3
"""What was best for a model of this size (docs/experiments.md, many small steps)."""

HELD_OUT_FILE_CHARACTERS = 1 << 16
HELD_OUT_BYTES = 1 << 17
"""Of each kind at least this much is held out, and of one file at most the first half of it."""


def kinds_of_files(data: Path) -> dict[str, list[Path]]:
    """Kind of text to its files, in an order that depends on their names alone."""
    books = {path.name.split("__")[0]: path for path in sorted((data / "books").glob("*.txt"))}
    libraries = Path(sysconfig.get_path("purelib"))
    files = {
        "prose": [*books.values(), *(data / "text").glob("*.txt")],
        "docs": [*(data / "markdown").glob("*.md"), *libraries.glob("*.dist-info/METADATA")],
        "code": module_files(),
    }
    return {kind: sorted(paths, key=_draw) for kind, paths in files.items()}


def _draw(path: Path) -> bytes:
    return hashlib.sha256("/".join(path.parts[-2:]).encode()).digest()


def divide(files: Sequence[Path], max_bytes: float) -> tuple[list[str], list[str]]:
    """Texts to train on, of about `max_bytes` at most, and the held-out texts, which are those of the last files."""
    remaining = list(files)
    held_out: list[str] = []
    while _num_bytes(held_out) < HELD_OUT_BYTES:
        held_out.append(_read(remaining.pop())[:HELD_OUT_FILE_CHARACTERS])
    training: list[str] = []
    while remaining and _num_bytes(training) < max_bytes:
        training.append(_read(remaining.pop(0)))
    return training, held_out


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace")


def _num_bytes(texts: Iterable[str]) -> int:
    return sum(len(text.encode()) for text in texts)


def rows_of(texts: list[str], tokenizer: Path, work: Path, *, stride: int) -> TokenRows:
    """The texts as rows of the context's length. With a stride of 1 every byte of them is predicted."""
    corpus = work / "texts.jsonl"
    corpus.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    builder = DatasetBuilder(
        tokenizer, CONTEXT_TOKENS, stride=stride, num_workers=1, work_dir=work, measure_overlap=False
    )
    return builder.build_from_jsonl(corpus, 1.0, 0.0, 0.0)["train"]


def train_and_measure(
    rows: TokenRows,
    held_out: Mapping[str, TokenRows],
    tokenizer: Tokenizer,
    *,
    steps: int,
    seed: int,
    work: Path,
) -> dict[str, float]:
    """Bits per byte of each held-out kind after a training of `steps` steps."""
    shape = ModelConfig.from_dict(
        {**SHAPE, "vocab_size": tokenizer.vocab_size, "max_position_embeddings": CONTEXT_TOKENS}
    )
    config = TrainingConfig(
        batch_size=BATCH_ROWS,
        learning_rate=LEARNING_RATE,
        total_steps=steps,
        save_steps=steps,
        seed=seed,
        device="cpu",
        output_dir=work / "run",
    )
    model = create_model_from_config(shape, seed=seed)
    manager = DeviceManager("cpu")
    trainer = PretrainingTrainer(model, config, shape, manager, tokenizer=tokenizer)
    trainer.train(RowBatches(rows, batch_size=BATCH_ROWS, seed=seed))
    found = {}
    for kind, kind_rows in held_out.items():
        result = evaluate_rows(model, kind_rows, tokenizer, manager, document_masking=False)
        assert result.bits_per_byte is not None
        found[kind] = result.bits_per_byte
    return found


def measure_variant(
    settings: dict[str, Any],
    flags: argparse.Namespace,
    training: list[str],
    held_out: Mapping[str, list[str]],
    reference_tokens: int | None,
) -> dict[str, Any]:
    """Tokens that the training text takes, bytes a token and, for each seed, bits per byte, by kind.

    Args:
        reference_tokens: So many tokens of the training text are `flags.steps` steps; None = it is as for all.
    """
    with tempfile.TemporaryDirectory() as directory:
        work = Path(directory)
        trainer = TokenizerTrainer(flags.vocabulary, **settings)
        trainer.train_from_iterator(training, "tokenizer", work / "tokenizer")
        tokenizer = Tokenizer.from_file(work / "tokenizer")
        (work / "train").mkdir()
        rows = rows_of(training, work / "tokenizer", work / "train", stride=0)
        num_tokens = len(rows) * CONTEXT_TOKENS
        steps = (
            flags.steps if reference_tokens is None else round(flags.steps * num_tokens / reference_tokens)
        )
        held_out_rows = {}
        for kind, texts in held_out.items():
            (work / kind).mkdir()
            held_out_rows[kind] = rows_of(texts, work / "tokenizer", work / kind, stride=1)
        seeds = []
        for seed in range(flags.seeds):
            run = work / str(seed)
            run.mkdir()
            seeds.append(train_and_measure(rows, held_out_rows, tokenizer, steps=steps, seed=seed, work=run))
        sizes = {kind: _num_bytes(texts) for kind, texts in held_out.items()}
        bytes_per_token = {
            kind: sizes[kind] / sum(map(len, tokenizer.encode_batch(texts)))
            for kind, texts in held_out.items()
        }
        for found in seeds:
            found["all"] = sum(found[kind] * sizes[kind] for kind in sizes) / sum(sizes.values())
        return {"num_tokens": num_tokens, "steps": steps, "bytes_per_token": bytes_per_token, "seeds": seeds}


def row(name: str, result: dict[str, Any]) -> str:
    """One line of the table: bits per byte as mean and half the distance between the extreme seeds."""
    cells = [name, f"{result['steps']:,}"]
    for kind in ("all", "prose", "docs", "code"):
        values = [found[kind] for found in result["seeds"]]
        cells.append(f"{statistics.mean(values):.3f} ± {(max(values) - min(values)) / 2:.3f}")
    cells += [f"{value:.2f}" for value in result["bytes_per_token"].values()]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Print the table, a line as soon as it is known."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, default=os.environ.get("BLOOMERY_REAL_DATA"), help="real texts")
    parser.add_argument("--megabytes", type=float, default=20.0, help="text to train on, of all kinds")
    parser.add_argument("--vocabulary", type=int, default=8192, help="number of tokens")
    parser.add_argument("--steps", type=int, default=500, help=f"steps of {BATCH_ROWS} rows")
    parser.add_argument("--seeds", type=int, default=2, help="trainings of each variant")
    parser.add_argument("--variants", nargs="+", choices=VARIANTS, default=list(VARIANTS), metavar="NAME")
    parser.add_argument(
        "--same-text", action="store_true", help="as much text, not as many tokens, as the first variant"
    )
    parser.add_argument("--json", type=Path, help="file for the figures")
    flags = parser.parse_args()
    if flags.data is None:
        parser.error("--data is missing, and BLOOMERY_REAL_DATA is not set")
    torch.set_num_threads(1)
    kinds = kinds_of_files(flags.data)
    divided = {kind: divide(files, 1e6 * flags.megabytes / len(kinds)) for kind, files in kinds.items()}
    training = list(itertools.chain.from_iterable(texts for texts, _ in divided.values()))
    held_out = {kind: texts for kind, (_, texts) in divided.items()}
    for kind, (texts, kept) in divided.items():
        print(f"{kind}: {_num_bytes(texts):,} bytes to train on, {_num_bytes(kept):,} held out", flush=True)
    print("\n| variant | steps | all | prose | docs | code | bytes a token: prose | docs | code |")
    print("|---|---|---|---|---|---|---|---|---|", flush=True)
    results: dict[str, Any] = {}
    reference = None
    for name in flags.variants:
        started = time.process_time()
        results[name] = measure_variant(VARIANTS[name], flags, training, held_out, reference)
        if flags.same_text:
            reference = reference or results[name]["num_tokens"]
        results[name]["cpu_seconds"] = time.process_time() - started
        print(row(name, results[name]), flush=True)
    if flags.json is not None:
        flags.json.write_text(json.dumps(results, indent=2))


if __name__ == "__main__":
    main()
