"""What `scripts/doctor.py` prints: the points of the environment, then what is to be said of each training."""

import textwrap
from collections.abc import Sequence

from pipeline.environment import Check
from training.diagnosis import DIAGNOSES, diagnose
from training.monitor_page import in_lines, numbers, shortest_names, state
from training.run_log import TrainingLog

WIDTH = 100
GOOD, BAD = "OK", "!!"
INDENT = 20


def environment_page(checks: Sequence[Check]) -> str:
    """A line for each point, and what to do below those that are not as they should be."""
    lines = [_heading("This machine")]
    for check in checks:
        mark = GOOD if check.remedy is None else BAD
        lines += _wrapped(f"  {mark}  {check.name:<{INDENT - 6}}", check.found)
        if check.remedy is not None:
            lines += _wrapped(" " * INDENT, f"→ {check.remedy}")
    return "\n".join(lines)


def training_diagnosis_page(logs: Sequence[TrainingLog]) -> str:
    """For each training: its state, its numbers, and every finding with its remedy."""
    lines: list[str] = []
    for name, log in zip(shortest_names([log.directory for log in logs]), logs, strict=True):
        lines += ["", _heading(name), *_wrapped("  ", state(log)), *in_lines(numbers(log), width=WIDTH)]
        findings = diagnose(log)
        for finding in findings:
            lines += [*_wrapped(f"  {BAD}  ", finding.seen), *_wrapped(" " * 6, f"→ {finding.remedy}")]
        if not findings:
            lines.append(f"  {GOOD}  {len(DIAGNOSES)} diagnoses, nothing to say")
    return "\n".join(lines).removeprefix("\n")


def _heading(text: str) -> str:
    return f"── {text} " + "─" * max(0, WIDTH - len(text) - 4)


def _wrapped(opening: str, text: str) -> list[str]:
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=opening,
        subsequent_indent=" " * (len(opening) + 2 * text.startswith("→")),
        break_on_hyphens=False,
    )
