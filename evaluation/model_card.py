"""The model card of a run: what was measured, as Markdown, and nothing else. Reads no file."""

from collections.abc import Sequence

from data_processing.reports.shown import markdown, number, size
from evaluation.line_evaluation import texts_of
from evaluation.run_facts import Facts, headline, num_parameters
from evaluation.run_places import TRAININGS
from evaluation.task_results import num_asked, title_of

CARD_NAME = "MODEL_CARD.md"


def model_card(facts: Facts) -> str:
    """The model card: what was measured, and nothing else."""
    shape, evaluation = facts["shape"], facts["evaluation"]
    if not shape:
        return "# Model card\n\nNo model was trained yet.\n"
    front = ["---", "library_name: transformers", "pipeline_tag: text-generation", "---", ""]
    lines = [
        *front,
        f"# {markdown(facts['name'])}",
        "",
        (
            f"{headline(facts)} Everything below was measured; what the texts it learned from are worth, and under "
            "which licences they stand, is not known to the program that wrote this."
        ),
        "",
        "## Model",
        "",
        *_rows(
            ["", ""], [["architecture", shape["model_type"]], ["parameters", f"{num_parameters(facts):,}"]]
        ),
        f"| context | {shape.get('max_position_embeddings') or shape.get('n_positions')} tokens |",
        f"| vocabulary | {shape['vocab_size']:,} tokens |",
    ]
    if collection := facts["data"].get("collection"):
        lines += [
            "",
            "## Training data",
            "",
            f"{collection['kept']:,} documents, {size(collection['bytes_kept'])}: see the run's DATA_CARD.md.",
        ]
    training = [
        [
            TRAININGS[stage],
            f"{log.step:,}",
            f"{int(log.last('train/tokens') or 0):,}",
            f"{log.elapsed_seconds:,.0f} s",
        ]
        for stage, log in facts["logs"].items()
    ]
    lines += ["", "## Training", "", *_rows(["", "steps", "tokens", "time"], training)]
    texts = [
        [
            model,
            split,
            f"{v['loss_nats']:.3f}",
            _optional_number(v["perplexity"]),
            _optional_number(v["bits_per_byte"]),
        ]
        for model, split, v in texts_of(evaluation)
    ]
    if texts:
        head = ["model", "text", "loss, nats a token", "perplexity", "bits per byte"]
        lines += ["", "## Held-out text", "", *_rows(head, texts)]
    tasks = [
        [
            stage,
            title_of(result),
            num_asked(result),
            figure,
            _with_interval(s),
            _optional_number(s["random"]),
            _optional_number(s["ngram"]),
        ]
        for stage, results in facts["scores"].items()
        for result in results.values()
        if "task" in result.get("recipe", {})
        for figure, s in result["scores"].items()
    ]
    if tasks:
        head = ["model", "task", "questions", "figure", "value (95 % interval)", "chance", "trigrams"]
        lines += ["", "## Tasks", "", *_rows(head, tasks)]
    copied = [
        [
            stage,
            _optional_number(quality["figures"].get("longest_copy_words")),
            _optional_number(quality["figures"].get("copied_13_grams_share")),
            str(sum(quality["personal_data"].values())),
        ]
        for stage, results in facts["scores"].items()
        if (quality := results.get("quality.json"))
    ]
    if copied:
        head = ["model", "longest copy, words", "copied 13-grams", "samples with personal data, by kind"]
        lines += ["", "## Copies of the training text, in samples", "", *_rows(head, copied)]
    lines += ["", "## How to make it again", "", "```", facts["command"], "```"]
    return "\n".join(lines) + "\n"


def _rows(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    return [
        f"| {' | '.join(head)} |",
        "|" + "---|" * len(head),
        *(f"| {' | '.join(markdown(cell) for cell in row)} |" for row in rows),
    ]


def _with_interval(score: Facts) -> str:
    value = _optional_number(score["value"])
    if score["low"] is None:
        return value
    return f"{value} ({_optional_number(score['low'])} to {_optional_number(score['high'])})"


def _optional_number(value: float | None) -> str:
    return "–" if value is None else number(value)
