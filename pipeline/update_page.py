"""What the user reads of updates: how one compares with what it was made from, and all of a run. Changes nothing."""

from pathlib import Path

from evaluation.comparison import comparison_table
from inference.model_directory import latest_number
from pipeline.generations import Update, directory_of, updates_of


def update_page(update: Update) -> str:
    """The comparison, the verdict, and what can be done next, as text."""
    run = update.run
    rows = comparison_table(update.facts["comparison"])
    width = max((len(what) for what, _, _ in rows), default=0)
    lines = [f"update {update.number} of {run}, made from {_name(update.parent)}", ""]
    lines.append(f"  {'':{width}}  {'before':>8}  {'now':>8}")
    lines += [f"  {what:{width}}  {old:>8}  {new:>8}" for what, old, new in rows]
    lines.append("")
    if update.facts["objections"]:
        lines.append(f"It is not used: {run} stands for {_name(update.parent)} as before.")
        lines += [f"  worse: {objection}" for objection in update.facts["objections"]]
        lines.append(f"  use it all the same   python scripts/update.py {run} --use {update.number}")
    else:
        lines.append(f"{run} stands for it from now on; a server that runs has to be started again.")
        lines.append(f"  go back               python scripts/update.py {run} --rollback")
    lines.append(f"  talk to it            python scripts/chat.py {update.directory}")
    report = update.directory / "evaluation" / "report.html"
    if report.is_file():
        lines.append(f"  look at it            {report}")
    return "\n".join(lines)


def history_page(run: Path) -> str:
    """All updates of a run, one a line, and which one is used."""
    latest = latest_number(run)
    updates = updates_of(run)
    lines = [f"{_mark(latest == 0)} 0  {run}, the run itself"]
    for update in updates:
        mark = _mark(update.number == latest)
        lines.append(f"{mark} {update.number}  from {update.parent}: {_learned(update)}; {_state(update)}")
    if not updates:
        lines.append("no updates yet: python scripts/update.py --help")
    return "\n".join(lines)


def _mark(is_used: bool) -> str:
    return "→" if is_used else " "


def _name(number: int) -> str:
    return f"update {number}" if number else "the run itself"


def _learned(update: Update) -> str:
    asked, learned = update.facts["asked"], update.facts.get("learned", {})
    what = ", ".join([*asked["data"], *asked["feedback"]]) or "what was added to its documents"
    if learned.get("documents") is not None:
        what += f" ({learned['documents']:,} new documents, {learned['steps']:,} steps)"
    return what


def _state(update: Update) -> str:
    if not update.is_finished:
        return f"not finished ({directory_of(update.run, update.number)})"
    return "; ".join(update.facts["objections"]) or "no worse than before"
