"""What `scripts/monitor.py` shows: each training in a few lines, then the curves of all of them. Reads no file."""

from collections.abc import Sequence
from pathlib import Path

from core.progress import short_number
from training.run_log import TrainingLog
from training.terminal_chart import MARKS, chart, coloured, side_by_side

CURVES = {
    "train/loss": "training loss, nats",
    "validation/loss": "validation loss, nats",
    "validation/bits_per_byte": "validation, bits per byte",
    "train/gradient_norm": "gradient norm",
    "train/learning_rate": "learning rate",
    "train/tokens_per_second": "tokens a second",
}
MIN_CHART_WIDTH = 44
MIN_CHART_HEIGHT, MAX_CHART_HEIGHT = 4, 14
MAX_WIDTH = 200


def monitor_page(logs: Sequence[TrainingLog], *, width: int, height: int | None, colour: bool) -> str:
    """The page as text.

    Args:
        logs: In the order of their letters.
        width: Characters of the terminal.
        height: Its lines, which the curves share; None = as many as look well.
    """
    width = min(width, MAX_WIDTH)
    names = shortest_names([log.directory for log in logs])
    lines = []
    for number, (name, log) in enumerate(zip(names, logs, strict=True)):
        mark = coloured(MARKS[number % len(MARKS)], number, colour) if len(logs) > 1 else " "
        lines += [f"{mark} {f'{name}: {state(log)}'[: width - 2]}", *in_lines(numbers(log), width=width)]
    shown = [name for name in CURVES if any(log.curves.get(name) for log in logs)]
    if not shown:
        return "\n".join([*lines, "  no metrics yet"])
    columns = max(1, min(2, width // MIN_CHART_WIDTH))
    rows = -(-len(shown) // columns)
    chart_width = (width - 2 * (columns - 1)) // columns
    room = MAX_CHART_HEIGHT if height is None else (height - len(lines) - 1) // rows - 3
    chart_height = min(MAX_CHART_HEIGHT, max(MIN_CHART_HEIGHT, room))
    blocks = [
        chart(
            CURVES[name],
            [log.curves.get(name, ()) for log in logs],
            width=chart_width,
            height=chart_height,
            colour=colour,
            span=(0, max(log.step for log in logs)),
        )
        for name in shown
    ]
    for start in range(0, len(blocks), columns):
        lines += ["", *side_by_side(blocks[start : start + columns], width=chart_width)]
    return "\n".join(lines)


def state(log: TrainingLog) -> str:
    """Whether a training runs, and when it was last heard of."""
    heard = "" if log.seconds_since_line is None else f", last line {ago(log.seconds_since_line)} ago"
    if log.is_finished:
        return f"finished{heard}"
    if log.holder is not None:
        return f"running ({log.holder}){heard}"
    return f"not running, as far as its lock says{heard}"


def numbers(log: TrainingLog) -> str:
    """The latest numbers of a training, as far as there are any."""
    known = {
        "loss {:.3f}": log.last("train/loss"),
        "val {:.3f}": log.last("validation/loss"),
        "{:.3f} bits/byte": log.last("validation/bits_per_byte"),
        "lr {:.1e}": log.last("train/learning_rate"),
        "norm {:.2f}": log.last("train/gradient_norm"),
        "{} tok/s": _short(log.last("train/tokens_per_second")),
        "MFU {:.0%}": log.last("train/mfu"),
        "{:.0%} of matmul": log.last("train/share_of_matmul_speed"),
        "{:.2f} epochs": log.last("train/epochs"),
    }
    steps = f"step {log.step:,} of {log.total_steps:,}" if log.total_steps else f"step {log.step:,}"
    left = _seconds_left(log)
    return ", ".join(
        [
            steps + (f" ({ago(left)} left)" if left else ""),
            *(text.format(value) for text, value in known.items() if value is not None),
        ]
    )


def ago(seconds: float) -> str:
    """A duration in two units at most.

    >>> ago(7.2), ago(75), ago(7260), ago(180_000)
    ('7 s', '1 min 15 s', '2 h 1 min', '2 d 2 h')
    """
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 86_400:
        return f"{whole // 3600} h {whole % 3600 // 60} min"
    return f"{whole // 86_400} d {whole % 86_400 // 3600} h"


def shortest_names(directories: Sequence[Path]) -> list[str]:
    """The last parts of the paths, as many as tell them apart."""
    parts = [directory.absolute().parts for directory in directories]
    for length in range(2, max(map(len, parts), default=2) + 1):
        names = ["/".join(one[-length:]) for one in parts]
        if len(set(names)) == len(names):
            return names
    return [str(directory) for directory in directories]


def in_lines(text: str, *, width: int) -> list[str]:
    """`text` set in by two, with line ends behind commas only; what is longer than a line is cut."""
    lines = [""]
    for part in text.split(", "):
        longer = f"{lines[-1]}, {part}" if lines[-1] else part
        if lines[-1] and len(longer) > width - 3:
            lines[-1] += ","
            longer = part
            lines.append("")
        lines[-1] = longer
    return [f"  {line}"[:width] for line in lines]


def _seconds_left(log: TrainingLog) -> float | None:
    """By the pace of this process; None where it does not run."""
    pace = log.curves.get("train/process_seconds", ())
    if log.is_finished or log.holder is None or log.total_steps is None or len(pace) < 2:
        return None
    (first, began), (last, now) = pace[max(-10, -len(pace))], pace[-1]
    return (log.total_steps - last) * (now - began) / (last - first) if now > began else None


def _short(value: float | None) -> str | None:
    return None if value is None else short_number(value)
