"""What ways of instruction tuning teach, and what they cost of the text that was learned before.

python benchmarks/tuning.py runs/quickstart --out /tmp/tuning --steps 1500 "all weights" \
    "rank 16: lora.rank=16 learning_rate=5e-3" "replay: replay_share=0.25"

Each way is a name and settings of `instruction`; all begin with the run's pretrained model and learn its conversations.
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
from evaluation.answers import ask, evenly_spaced, questions_in, score
from evaluation.perplexity import evaluate_rows
from inference.chat import ChatModel
from pipeline.tuning import tune
from tokenization.tokenizer import Tokenizer


def main(arguments: list[str]) -> int:
    """Run the command line and return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", type=Path, metavar="RUN", help="a finished run with instruction data")
    parser.add_argument("ways", nargs="+", metavar="NAME[: SETTING=VALUE …]", help="ways of tuning")
    parser.add_argument("--out", type=Path, required=True, help="a directory for the models and results.json")
    parser.add_argument("--steps", type=int, default=1500, help="updates of each (1500)")
    flags = parser.parse_args(arguments)
    share_the_machine()
    log_to_console()
    run: Path = flags.run
    results = {"pretrained": measured(run, run / "pretrain" / "final")}
    for way in flags.ways:
        name, _, text = way.partition(":")
        out = flags.out / name.replace(" ", "-")
        results[name] = tuned(run, out, steps=flags.steps, **parse_overrides(text.split()))
        write_json(flags.out / "results.json", results)
    print(as_table(results))
    return 0


def tuned(run: Path, out: Path, *, steps: int, **settings: Any) -> dict[str, Any]:
    """Tune the run's pretrained model, and measure what came out."""
    config = PipelineConfig.from_file(run / "settings.json")
    common = {
        "total_steps": steps,
        "time_budget_seconds": None,
        "epochs": None,
        "replay_share": None,
    }
    config = config.replace(run={"time_budget": None}, instruction={**common, **settings})
    tokenizer = Tokenizer.from_file(run / "tokenizer")
    conversations, dataset = run / "instructions", run / "dataset"
    metrics = tune(config, run / "pretrain" / "final", tokenizer, conversations, out, dataset=dataset)
    return {"seconds": metrics["elapsed_seconds"], **measured(run, out / "final")}


def measured(run: Path, directory: Path) -> dict[str, Any]:
    """Bits per byte of text and of held-out answers, and shares of right first sentences."""
    model, device = ChatModel.load(directory), DeviceManager("cpu")

    def bits(rows: Path, *, document_masking: bool) -> float | None:
        return evaluate_rows(
            model.engine.model, TokenRows(rows), model.tokenizer, device, document_masking=document_masking
        ).bits_per_byte

    result: dict[str, Any] = {
        "text": bits(run / "dataset" / "test", document_masking=False),
        "answers": bits(run / "instructions" / "validation", document_masking=True),
    }
    for name, split in (("held in", "train"), ("held out", "validation")):
        questions = evenly_spaced(
            list(questions_in(TokenRows(run / "instructions" / split), model.tokenizer)), 200
        )
        scores = score(ask(model, questions, max_tokens=96, batch_size=32, description=name))
        result |= {name: scores["right_first_sentence_share"], f"{name}, ended": scores["stopped_share"]}
    return result


def as_table(results: dict[str, dict[str, Any]]) -> str:
    """The results as a table of Markdown."""
    head = "| | s | bits per byte of text | of held-out answers | held-in right | held-out right | ended |"
    lines = [head, "|---|---|---|---|---|---|---|"]
    for name, values in results.items():
        seconds = f"{values['seconds']:.0f}" if "seconds" in values else ""
        lines.append(
            f"| {name} | {seconds} | {values['text']:.3f} | {values['answers']:.3f} | {values['held in']:.1%} | "
            f"{values['held out']:.1%} | {values['held out, ended']:.1%} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
