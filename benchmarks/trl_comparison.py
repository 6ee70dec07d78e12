"""Our losses of preferences beside those of TRL's DPOTrainer, on the same models and tokens.

TRL is no dependency of this project: make an environment of its own with torch, trl and pyarrow, and there, from here,

    PYTHONPATH=. python benchmarks/trl_comparison.py --golden tests/training/golden_preference_losses.json

Prints both losses and their difference; with --golden, keeps the numbers for the tests. Exits with 1 where they differ.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import tokenizers
import torch
import transformers
import trl

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from core.device_manager import DeviceManager
from core.training_config import ModelConfig
from data_processing.rows.packing import join_rows, restarting_positions, shift_labels
from data_processing.rows.pair_packing import Answer, PairPacker, pair_columns
from models.hf_layout import save_model
from models.transformer_lm import create_model_from_config
from training.batches import to_tensors
from training.preference_loss import PreferenceLoss, judge_pairs, judge_rows

SHAPE = ModelConfig(
    vocab_size=96,
    hidden_size=48,
    num_layers=2,
    num_attention_heads=4,
    max_position_embeddings=64,
    use_qk_norm=False,
    initializer_range=0.15,
)
NUM_PAIRS = 12
NAMES = {"dpo": "sigmoid", "dpo_per_token": "sigmoid_norm", "ipo_per_token": "ipo"}
"""Ours and TRL's. Its ipo divides by the number of tokens; ours without that is equation 17 of the paper itself."""
BETAS = (0.1, 0.5)
TOLERANCE = 1e-5
"""Relative: float32 sums in another order."""


def main(arguments: list[str]) -> int:
    """Run the command line and return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--golden", type=Path, help="where to keep the numbers for the tests")
    flags = parser.parse_args(arguments)
    policy, reference = (create_model_from_config(SHAPE, seed=seed).eval() for seed in (1, 2))
    pairs = random_pairs()
    with tempfile.TemporaryDirectory() as scratch:
        theirs = [as_transformers(model, Path(scratch)) for model in (policy, reference)]
        golden, worst = compare(policy, reference, pairs, theirs, Path(scratch))
    print(f"largest relative difference: {worst:.2e}")
    if flags.golden is not None:
        flags.golden.write_text(json.dumps(golden, indent=1) + "\n")
    return 0 if worst <= TOLERANCE else 1


def random_pairs() -> list[tuple[Answer, Answer]]:
    """Prompts and answers of many lengths."""
    generator = np.random.Generator(np.random.PCG64(7))
    pairs = []
    for _ in range(NUM_PAIRS):
        prompt = generator.integers(4, 96, size=generator.integers(2, 12)).tolist()
        one, other = (
            Answer(prompt + generator.integers(4, 96, size=generator.integers(1, 14)).tolist(), len(prompt))
            for _ in range(2)
        )
        pairs.append((one, other))
    return pairs


def as_transformers(model: Any, scratch: Path) -> Any:
    """The same weights as a model of transformers."""
    directory = Path(tempfile.mkdtemp(dir=scratch))
    save_model(model, directory, bos_id=1, eos_id=2, pad_id=3)
    return transformers.AutoModelForCausalLM.from_pretrained(directory)


def our_batch(pairs: list[tuple[Answer, Answer]], reference: Any) -> dict[str, torch.Tensor]:
    """The pairs packed into one batch, with what the reference thinks of them."""
    packer = PairPacker(SHAPE.max_position_embeddings, pad_id=3, dtype=np.dtype(np.uint16))
    parts = [rows for pair in pairs for rows in packer.add(*pair)] + list(packer.finish())
    rows = join_rows(parts)
    R, T = rows.input_ids.shape
    flat_starts = np.repeat(np.arange(R), rows.start_counts) * T + rows.starts
    assert rows.labels is not None
    batch = {
        "input_ids": rows.input_ids.astype(np.int64),
        "labels": shift_labels(rows.labels.astype(np.int64)),
        "position_ids": restarting_positions((R, T), flat_starts),
    }
    references = judge_rows(reference, rows, DeviceManager("cpu"))
    return to_tensors(pair_columns(batch, flat_starts=flat_starts, references=references))


def their_batch(pairs: list[tuple[Answer, Answer]]) -> dict[str, torch.Tensor]:
    """As TRL's collator makes it: all that are chosen, then all that are rejected, padded at the end."""
    answers = [pair[half] for half in (0, 1) for pair in pairs]
    T = max(len(answer.ids) for answer in answers)
    ids = torch.full((len(answers), T), 3)
    attended, completion = torch.zeros_like(ids), torch.zeros_like(ids)
    for row, answer in enumerate(answers):
        ids[row, : len(answer.ids)] = torch.tensor(answer.ids)
        attended[row, : len(answer.ids)] = 1
        completion[row, answer.num_prompt_tokens : len(answer.ids)] = 1
    return {"input_ids": ids, "attention_mask": attended, "completion_mask": completion}


def compare(
    policy: Any, reference: Any, pairs: list[tuple[Answer, Answer]], theirs: list[Any], scratch: Path
) -> tuple[dict[str, Any], float]:
    """The numbers for the tests, and the largest relative difference between both libraries."""
    batch = our_batch(pairs, reference)
    golden: dict[str, Any] = {"trl": trl.__version__, "losses": {}}
    with torch.no_grad():
        judged = judge_pairs(policy, batch)
        blank = judge_pairs(policy, {**batch, "references": torch.zeros_like(batch["references"])})
        is_pair = judged.is_pair.bool()
        for place, half in enumerate(("chosen", "rejected")):
            plain, gain = blank.gains[place][is_pair], judged.gains[place][is_pair]
            golden |= {half: plain.tolist(), f"{half}_reference": (plain - gain).tolist()}
            golden[f"{half}_tokens"] = judged.num_tokens[place][is_pair].tolist()
    worst = 0.0
    for ours, name in NAMES.items():
        golden["losses"][ours] = {}
        for beta in BETAS:
            expected = their_loss(theirs, their_batch(pairs), name, beta, scratch)
            with torch.no_grad():
                found = float(PreferenceLoss(ours, beta)(policy, batch, document_masking=True)) / NUM_PAIRS
            difference = abs(found - expected) / abs(expected)
            worst = max(worst, difference)
            golden["losses"][ours][str(beta)] = expected
            print(
                f"{ours:<14} beta {beta}: ours {found:.7f}, TRL's {name} {expected:.7f}, differs by {difference:.1e}"
            )
    return golden, worst


def their_loss(
    models: list[Any], batch: dict[str, torch.Tensor], name: str, beta: float, scratch: Path
) -> float:
    """What TRL's own trainer computes."""
    words = {f"w{number}": number for number in range(96)}
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizers.Tokenizer(tokenizers.models.WordLevel(words, unk_token="w0")),
        pad_token="w3",
        eos_token="w2",
    )
    config = trl.DPOConfig(
        output_dir=str(scratch),
        loss_type=[name],
        beta=beta,
        report_to=[],
        use_cpu=True,
        bf16=False,
        gradient_checkpointing=False,
    )
    # It wants data to begin with; the loss is asked of other tensors.
    some = datasets.Dataset.from_list([{"prompt": "w5 w6", "chosen": "w7", "rejected": "w8"}])
    trainer = trl.DPOTrainer(
        model=models[0], ref_model=models[1], args=config, train_dataset=some, processing_class=tokenizer
    )
    models[0].eval()
    with torch.no_grad():
        return float(trainer._compute_loss(trainer.model, batch, return_outputs=False))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
