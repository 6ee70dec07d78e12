"""What preference tuning teaches, and what it costs of the text and the answers that were learned before.

python benchmarks/preferences.py runs/quickstart --instructions records.json --pairs pairs.json --out /tmp/preferences \
    "dpo" "ipo: loss=ipo" "gentle: beta=0.5 learning_rate=2e-5"

Tunes the run's pretrained model on the records first, unless --out has that model already. Each way is a name and
settings of `preference`; all begin with that model and share rows, so a tenth of the pairs is held out of both.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

# Before this directory, whose inference.py would be taken for the room of that name.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from core.config import parse_overrides
from core.device_manager import DeviceManager
from core.files import write_json
from core.logs import log_to_console
from core.threads import share_the_machine
from core.training_config import PipelineConfig
from data_processing.rows.token_rows import TokenRows
from evaluation.perplexity import evaluate_rows
from models.hf_layout import load_model
from pipeline.preferring import prefer, preference_rows
from pipeline.tuning import conversation_rows, tune
from tokenization.tokenizer import Tokenizer
from training.preference_loss import PREFERENCE_METRICS

VAL_SPLIT = 0.1


def main(arguments: list[str]) -> int:
    """Run the command line and return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="a finished run")
    parser.add_argument("ways", nargs="+", metavar="NAME[: SETTING=VALUE …]", help="ways of preferring")
    parser.add_argument(
        "--instructions", type=Path, required=True, help="records that the model is tuned on first"
    )
    parser.add_argument("--pairs", type=Path, required=True, help="pairs of answers")
    parser.add_argument("--out", type=Path, required=True, help="a directory for the models and results.json")
    flags = parser.parse_args(arguments)
    share_the_machine()
    log_to_console()
    run, out = flags.run, flags.out
    out.mkdir(exist_ok=True)
    config = PipelineConfig.from_file(run / "settings.json").replace(
        run={"time_budget": None},
        instruction={
            "replay_share": None,
            "data": str(flags.instructions),
            "time_budget_seconds": None,
            "epochs": 3.0,
            "eval_steps": 50,
            "max_records": None,
            "val_split": VAL_SPLIT,
        },
        preference={"data": str(flags.pairs), "val_split": VAL_SPLIT},
    )
    tokenizer = Tokenizer.from_file(run / "tokenizer")
    tuned, conversations, pairs = out / "tuned", out / "instructions", out / "pairs"
    if not conversations.is_dir():
        conversation_rows(config, tokenizer, config.model.max_position_embeddings, conversations)
    tune(config, run / "pretrain" / "final", tokenizer, conversations, tuned)
    if not pairs.is_dir():
        preference_rows(config, tuned / "final", tokenizer, pairs)
    results: dict[str, dict[str, Any]] = {"tuned": costs(run, conversations, tuned / "final")}
    for way in flags.ways:
        name, _, text = way.partition(":")
        place = out / name.replace(" ", "-")
        asked = config.replace(preference=parse_overrides(text.split()))
        metrics = prefer(asked, tuned / "final", tokenizer, pairs, place)
        found = {key: metrics["final_validation"][key] for key in PREFERENCE_METRICS}
        results[name] = {**found, "steps": metrics["num_steps"], **costs(run, conversations, place / "final")}
        write_json(out / "results.json", results)
    print(as_table(results))
    return 0


def costs(run: Path, conversations: Path, directory: Path) -> dict[str, Any]:
    """Bits per byte of the run's held-out text, and of held-out answers."""
    model, tokenizer, device = load_model(directory), Tokenizer.from_file(directory), DeviceManager("cpu")
    rows = {"text": run / "dataset" / "test", "answers": conversations / "validation"}
    return {
        name: evaluate_rows(
            model, TokenRows(place), tokenizer, device, document_masking=name == "answers"
        ).bits_per_byte
        for name, place in rows.items()
    }


def as_table(results: dict[str, dict[str, Any]]) -> str:
    """The results as a table of Markdown."""
    accuracy, margin = PREFERENCE_METRICS
    head = "| | steps | held-out accuracy | margin, nats | bits per byte of text | of held-out answers |"
    lines = [head, "|---|---|---|---|---|---|"]
    for name, values in results.items():
        preferred = f"{values[accuracy]:.1%} | {values[margin]:.2f}" if accuracy in values else " | "
        lines.append(
            f"| {name} | {values.get('steps', '')} | {preferred} | {values['text']:.3f} | {values['answers']:.3f} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
