"""The same tasks, the same checkpoint: our figures beside those of lm-evaluation-harness, question by question.

    python -m venv harness && harness/bin/pip install -e . lm-eval transformers accelerate
    harness/bin/python -P benchmarks/harness_comparison.py CHECKPOINT TASK.jsonl... [--num-shots 3] [--server URL]

The harness is given our prompts (with the examples, if there are any) and its own defaults for everything else: it
opens the checkpoint by transformers, in float32, with `add_bos_token` as this project's models are trained; with
--server, it asks `python scripts/serve.py CHECKPOINT --weights float32` as it asks any server of OpenAI's interface.
"""

import argparse
import dataclasses
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# Before this directory, whose inference.py would be taken for the room of that name.
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from evaluation.language_model import LanguageModel, load_language_model
from evaluation.task_files import Task, prompts, read_task
from evaluation.tasks import Outcome, run_task

HARNESS_NAMES = {
    "multiple_choice": {"accuracy": "acc", "accuracy_per_byte": "acc_bytes"},
    "schema": {"accuracy": "acc"},
    "cloze": {"accuracy": "acc", "perplexity": "perplexity"},
}


def records(task: Task, *, num_shots: int, seed: int) -> list[dict[str, Any]]:
    """The questions as the harness reads them, with the examples in front."""
    found = []
    asked = task.delimiter.rstrip()
    # Of this kind alone the harness puts no delimiter in front of the answer.
    space = task.delimiter[len(asked) :] if task.kind == "cloze" else ""
    for number, contexts in zip(task.asked, prompts(task, num_shots=num_shots, seed=seed), strict=True):
        item = task.items[number]
        found.append(
            {
                "context": contexts[0] + asked,
                "options": list(
                    [context + asked for context in contexts] if task.kind == "schema" else item.answers
                ),
                "answer": space + item.answers[0],
                "gold": item.gold,
            }
        )
    return found


def without_long_answers(task: Task, model: LanguageModel) -> tuple[Task, int]:
    """The task without the questions at which the harness ends: an answer fills the model's context alone."""
    kept = [
        number
        for number in task.asked
        if max(map(len, model.encode([" " + answer for answer in task.items[number].answers])))
        < model.context
    ]
    return dataclasses.replace(task, asked=kept), len(task.asked) - len(kept)


def harness_task(task: Task, data: Path) -> dict[str, Any]:
    """The task in the harness' configuration language."""
    fields = {
        "multiple_choice": {"doc_to_text": "context", "doc_to_choice": "options", "doc_to_target": "gold"},
        "schema": {"doc_to_text": "gold", "doc_to_choice": "options", "doc_to_target": "answer"},
        "cloze": {"doc_to_text": "context", "doc_to_target": "answer"},
    }[task.kind]
    metrics = ["acc", "acc_norm", "acc_bytes"] if task.kind == "multiple_choice" else ["acc"]
    if task.kind == "cloze":
        metrics.append("perplexity")
    return {
        "task": f"local_{task.name}",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(data)}},
        "test_split": "test",
        "output_type": "loglikelihood" if task.kind == "cloze" else "multiple_choice",
        "target_delimiter": task.delimiter[len(task.delimiter.rstrip()) :],
        "metric_list": [{"metric": name} for name in metrics],
        **fields,
    }


def run_harness(
    checkpoint: str, task: Task, data: Path, *, batch_size: int, server: str | None, context: int
) -> dict[str, Any]:
    """What the harness says of the task: figures by its names, and the results of single questions."""
    import lm_eval
    from lm_eval.tasks import TaskManager

    name = f"local_{task.name}"
    served = {
        "base_url": f"{server}/v1/completions",
        "tokenizer": checkpoint,
        "tokenizer_backend": "huggingface",
        "max_length": context,
    }
    opened = {"pretrained": checkpoint, "dtype": "float32"}
    found = lm_eval.simple_evaluate(
        model="hf" if server is None else "local-completions",
        model_args={"add_bos_token": True, **(opened if server is None else served)},
        tasks=[harness_task(task, data)],
        task_manager=TaskManager(include_defaults=False),
        num_fewshot=0,
        batch_size=batch_size,
        device="cpu",
        bootstrap_iters=0,
    )
    values = {key.partition(",")[0]: value for key, value in found["results"][name].items()}
    samples = sorted(found["samples"][name], key=lambda sample: sample["doc_id"])
    return {"values": values, "right": "".join(str(int(sample["acc"])) for sample in samples)}


def compare(
    model: LanguageModel, task: Task, outcome: Outcome, harness: dict[str, Any]
) -> list[dict[str, Any]]:
    """A line for each figure that both have."""
    differing = sum(a != b for a, b in zip(outcome.right, harness["right"], strict=True))
    lines = []
    for ours, theirs in HARNESS_NAMES[task.kind].items():
        lines.append(
            {
                "task": task.name,
                "questions": len(task.asked),
                "figure": ours,
                "ours": outcome.scores[ours].value,
                "harness_name": theirs,
                "harness": harness["values"][theirs],
                "questions_that_differ": differing if ours == "accuracy" else None,
            }
        )
    if "acc_norm" in harness["values"]:
        lines[-1]["harness_acc_norm"] = harness["values"]["acc_norm"]
    return lines


def main(arguments: Sequence[str]) -> int:
    """Run the command line and return the exit code: 1 where a figure differs by more than 1e-4, relatively."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("checkpoint", help="a model directory of this project")
    parser.add_argument("tasks", nargs="+", metavar="TASK.jsonl")
    parser.add_argument("--num-shots", type=int, default=0)
    parser.add_argument("--limit", type=int, help="ask so many questions of each task")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--batch-size", type=int, default=32, help="of the harness; at most 16 with --server")
    parser.add_argument("--server", metavar="URL", help="such as http://127.0.0.1:8000, with the checkpoint")
    flags = parser.parse_args(arguments)
    model = load_language_model(flags.checkpoint, device="cpu")
    worst = 0.0
    for path in flags.tasks:
        task = read_task(path, limit=flags.limit)
        task, num_left_out = without_long_answers(task, model)
        outcome = run_task(model, task, ngram=None, num_shots=flags.num_shots, seed=flags.seed)
        with tempfile.TemporaryDirectory() as place:
            data = Path(place, "questions.jsonl")
            lines = records(task, num_shots=flags.num_shots, seed=flags.seed)
            data.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
            harness = run_harness(
                flags.checkpoint,
                task,
                data,
                batch_size=flags.batch_size,
                server=flags.server,
                context=model.context,
            )
        for line in compare(model, task, outcome, harness):
            worst = max(worst, abs(line["ours"] - line["harness"]) / max(abs(line["harness"]), 1e-9))
            print(json.dumps({**line, "questions_left_out": num_left_out}), flush=True)
    print(f"largest relative difference: {worst:.2e}", flush=True)
    return 0 if worst <= 1e-4 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
