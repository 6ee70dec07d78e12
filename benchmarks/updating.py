"""What a model learns of new documents and forgets of old ones, by how it is updated.

python benchmarks/updating.py --base DIR --new DIR --out runs/updating "half: training.replay_share=0.5" \
    "none: training.replay_share=null" "gentle: training.learning_rate=0.007 training.matrix_learning_rate=0.005"

Trains a run of the quickstart's shape on --base, unless --out has it already; then updates that run with --new in each
way that is named (settings laid over those of scripts/update.py), and trains another one on both from nothing.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from core.config import merge, parse_overrides
from core.config_files import CONFIG_ROOT, load_config
from core.device_manager import DeviceManager
from core.files import write_json
from core.logs import log_to_console
from core.stage import Selection
from core.threads import share_the_machine
from core.training_config import PipelineConfig
from evaluation.comparison import Two, compare_models
from evaluation.run_places import DataPlaces
from pipeline.generations import Update, use
from pipeline.run import train_llm_from_scratch
from pipeline.update import update_run


def main(arguments: list[str]) -> int:
    """Run the command line and return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("ways", nargs="+", metavar="NAME[: SETTING=VALUE …]", help="ways of updating")
    parser.add_argument(
        "--base", type=Path, required=True, help="directory of the documents that are learned first"
    )
    parser.add_argument("--new", type=Path, required=True, help="directory of the new documents")
    parser.add_argument("--out", type=Path, required=True, help="a directory for the runs and results.json")
    parser.add_argument(
        "--steps", type=int, default=1400, help="steps on the first documents. Default: 1400."
    )
    flags = parser.parse_args(arguments)
    share_the_machine()
    log_to_console()
    out: Path = flags.out
    out.mkdir(parents=True, exist_ok=True)
    base = settings_for(out / "base", flags.base, flags.steps)
    first = train_llm_from_scratch(base, selection=Selection(until="evaluate"))
    tokens = first.artifacts["dataset"].metrics["splits"]["train"]["tokens"]
    results: dict[str, dict[str, Any]] = {}
    for way in flags.ways:
        name, _, text = way.partition(":")
        use(out / "base", 0, because="the next way begins with the run itself")
        update = update_run(
            out / "base", data=[flags.new], overrides=parse_overrides(text.split()), tolerance=10.0
        )
        assert update is not None, "--new holds nothing that --base does not"
        metrics = update.facts["comparison"]["text"]
        results[name] = {
            which: {kind: round(metrics[kind][which]["bits_per_byte"], 4) for kind in metrics}
            for which in ("old", "new")
        }
        evaluation = PipelineConfig.from_file(update.directory / "settings.json").evaluation
        print(name, results[name], flush=True)
        write_json(out / "results.json", results)
        now = DataPlaces(update.directory / "corpus", update.directory / "dataset")
    both = settings_for(
        out / f"both-{flags.new.name}", flags.base, round(flags.steps * (1 + share_new(update, tokens)))
    )
    scratch = train_llm_from_scratch(
        merge(both, {"data": {"more_data": [str(flags.new)]}}), selection=Selection(until="pretrain")
    )
    found = compare_models(
        evaluation,
        DeviceManager("cpu"),
        continuing=Two(
            out / "base" / "pretrain" / "final", scratch.artifacts["pretrain"].directory / "final"
        ),
        answering=None,
        earlier=DataPlaces(out / "base" / "corpus", out / "base" / "dataset"),
        now=now,
        conversations=None,
        corrections=[],
        scores=out / "scores",
    )["text"]
    results["both from nothing"] = {
        "new": {kind: round(found[kind]["new"]["bits_per_byte"], 4) for kind in found}
    }
    write_json(out / "results.json", results)
    print(as_table(results))
    return 0


def share_new(update: Update, tokens: int) -> float:
    """How many new tokens there are for one of the first documents."""
    return float(update.facts["learned"]["tokens"]) / tokens


def settings_for(run: Path, raw: Path, steps: int) -> dict[str, Any]:
    """The quickstart's settings for other documents and no questions."""
    quickstart = load_config(CONFIG_ROOT / "quickstart").to_dict()
    return merge(
        quickstart,
        {
            "run": {"dir": str(run), "time_budget": None},
            "data": {"corpus": "directory", "raw_dir": str(raw)},
            "training": {"time_budget_seconds": None, "total_steps": steps},
            "evaluation": {"quality": False, "speed": False, "num_samples": 0, "num_documents": 400},
        },
    )


def as_table(results: dict[str, dict[str, Any]]) -> str:
    """Bits per byte of held-out text that the run knew of, and of new text."""
    kinds = ("earlier", "new")
    lines = ["| way | earlier text | new text |", "|---|---|---|"]
    before = next(iter(results.values()))["old"]
    for name, figures in {"before": before, **{name: own["new"] for name, own in results.items()}}.items():
        lines.append(f"| {name} | " + " | ".join(f"{figures[kind]:.3f}" for kind in kinds) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
