"""The curves of one or several trainings as a picture, for a slide or a message. Knows how to draw, reads no log.

One training has a colour for each kind of curve. Of several, each has its own, and training is drawn thinner than
held-out text.
"""

import importlib.util
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from core.errors import MissingDependencyError
from core.files import atomic_write
from training.monitor_page import shortest_names, state
from training.run_log import TrainingLog, thinned

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PLOTS_NAME = "training_curves.png"

BLUE, ORANGE, GREY = "#0072b2", "#d55e00", "#8a929c"
COLOURS = (BLUE, ORANGE, "#009e73", "#cc79a7", "#56b4e9", "#e69f00", GREY)
"""Told apart with every common colour blindness (Okabe and Ito 2008)."""


class Drawn(NamedTuple):
    """How a curve is drawn: its metric, its name in the panel, its colour where there is one training."""

    metric: str
    label: str = ""
    colour: str = BLUE
    is_thin: bool = False


PANELS: tuple[tuple[str, tuple[Drawn, ...]], ...] = (
    (
        "Loss, nats a token",
        (Drawn("train/loss", "training", GREY, is_thin=True), Drawn("validation/loss", "held out")),
    ),
    ("Bits per byte of held-out text", (Drawn("validation/bits_per_byte"),)),
    ("Gradient norm before clipping", (Drawn("train/gradient_norm"),)),
    ("Learning rate", (Drawn("train/learning_rate"),)),
    (
        "Update-to-weight ratio",
        (
            Drawn("train/update_to_weight/attention", "attention"),
            Drawn("train/update_to_weight/feed_forward", "feed-forward", ORANGE, is_thin=True),
        ),
    ),
    ("Tokens a second", (Drawn("train/tokens_per_second"),)),
)

WIDTH_INCHES, ROW_INCHES = 11.0, 2.7
DOTS_PER_INCH = 130

MARKED_POINTS = 30
"""So many evaluations are marked each; of any curve, a single point would not be seen otherwise."""


def can_plot() -> bool:
    """Whether matplotlib is installed."""
    return importlib.util.find_spec("matplotlib") is not None


def write_plots(logs: Sequence[TrainingLog], place: Path) -> Path:
    """Write the curves of `logs` as a PNG, and return where it is.

    Raises:
        MissingDependencyError: matplotlib is not installed.
        DiskError: the picture cannot be written.
    """
    atomic_write(place, picture(logs))
    return place


def picture(logs: Sequence[TrainingLog]) -> bytes:
    """A PNG with a panel for each kind of curve that one of `logs` has.

    Raises:
        MissingDependencyError: matplotlib is not installed.
    """
    if not can_plot():
        raise MissingDependencyError(
            "plots as PNG need the package matplotlib: pip install -e '.[plots]' (--html needs none)"
        )
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    panels = [
        (title, curves)
        for title, curves in PANELS
        if any(log.values(c.metric) for log in logs for c in curves)
    ]
    names = shortest_names([log.directory for log in logs])
    num_rows = max(1, -(-len(panels) // 2))
    # Not by pyplot, which keeps every figure and asks the machine for a screen.
    with rc_context({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure((WIDTH_INCHES, ROW_INCHES * num_rows + 0.5), dpi=DOTS_PER_INCH, layout="constrained")
        head = (
            f"{names[0]}: {state(logs[0]).partition(',')[0]}" if len(logs) == 1 else f"{len(logs)} trainings"
        )
        figure.suptitle(head if panels else f"{head}, no metrics yet", fontsize=11)
        for index, (title, curves) in enumerate(panels):
            axes = figure.add_subplot(num_rows, 2, index + 1)
            for number, log in enumerate(logs):
                several = (names[number], COLOURS[number % len(COLOURS)]) if len(logs) > 1 else None
                _draw(axes, log, curves, several)
            axes.set_title(title, loc="left", fontsize=10)
            axes.grid(alpha=0.25, linewidth=0.6)
            last_step = max(1, *(log.step for log in logs))
            axes.set_xlim(-0.02 * last_step, 1.02 * last_step)  # a mark at step 0 is not cut in half
            if index >= len(panels) - 2:
                axes.set_xlabel("step")
            if axes.get_legend_handles_labels()[1] and (len(logs) == 1 or index == 0):
                axes.legend(frameon=False, fontsize=8)
        file = io.BytesIO()
        figure.savefig(file, format="png")
    return file.getvalue()


def _draw(axes: "Axes", log: TrainingLog, curves: Sequence[Drawn], several: tuple[str, str] | None) -> None:
    """The curves of one training, and where it went back to a checkpoint.

    Args:
        several: Its name and colour among others; None = it is alone.
    """
    for drawn in curves:
        points = thinned(log.curves.get(drawn.metric, ()))
        if not points:
            continue
        label, colour = (drawn.label, drawn.colour) if several is None else several
        is_marked = drawn.metric.startswith("validation/") and len(points) <= MARKED_POINTS
        axes.plot(
            [step for step, _ in points],
            [value for _, value in points],
            color=colour,
            alpha=0.5 if drawn.is_thin and several is not None else 1.0,
            linewidth=1.8 if is_marked else 0.9 if drawn.is_thin else 1.2,
            marker="o" if is_marked or len(points) == 1 else None,
            markersize=3.5,
            # Of several trainings one line of the legend each; a name with "_" before it has none.
            label="_" if not label or (drawn.is_thin and several is not None) else label,
        )
    for number, step in enumerate(log.rollbacks):
        first = several is None and number == 0 and curves is PANELS[0][1]
        axes.axvline(
            step,
            color=ORANGE if several is None else several[1],
            linewidth=0.8,
            linestyle=":",
            label="went back" if first else "_",
        )
