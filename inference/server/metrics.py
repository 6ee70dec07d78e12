"""What the server counts, in the text format of Prometheus (version 0.0.4). Knows numbers and names only."""

from bisect import bisect_left
from collections import Counter

SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds of the histograms' buckets. Arbitrary; the first are a token's time, the last an answer's."""


class Histogram:
    """How often a duration was at most each of `SECONDS`, how often at all, and the sum."""

    def __init__(self) -> None:
        self._counts = [0] * (len(SECONDS) + 1)
        self._sum = 0.0

    def observe(self, seconds: float) -> None:
        """Count one."""
        self._counts[bisect_left(SECONDS, seconds)] += 1
        self._sum += seconds

    def lines(self, name: str) -> list[str]:
        """The samples."""
        result, total = [], 0
        for bound, count in zip([*map(str, SECONDS), "+Inf"], self._counts, strict=True):
            total += count
            result.append(f'{name}_bucket{{le="{bound}"}} {total}')
        return [*result, f"{name}_sum {self._sum:.6f}", f"{name}_count {total}"]


class Metrics:
    """Counters of one server; touched by the event loop's thread alone.

    Attributes:
        responses: By path and status.
    """

    def __init__(self) -> None:
        self.responses: Counter[tuple[str, int]] = Counter()
        self.cancelled_answers = 0
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self.first_token_seconds = Histogram()
        self.request_seconds = Histogram()

    def text(self, *, running: int, waiting: int, failed: int) -> str:
        """All of it, with the scheduler's numbers of requests."""
        lines = [
            *_described("http_responses_total", "counter", "Answered HTTP requests by path and status."),
            *(
                f'bloomery_http_responses_total{{path="{path}",status="{status}"}} {count}'
                for (path, status), count in sorted(self.responses.items())
            ),
        ]
        for name, kind, text, value in (
            ("answers_running", "gauge", "Answers that are being made.", running),
            ("answers_waiting", "gauge", "Answers that wait for a free row.", waiting),
            ("answers_failed_total", "counter", "Answers that ended with an error.", failed),
            ("answers_cancelled_total", "counter", "Answers whose client left.", self.cancelled_answers),
            ("prompt_tokens_total", "counter", "Tokens of accepted prompts.", self.prompt_tokens),
            ("completion_tokens_total", "counter", "Tokens of answers.", self.completion_tokens),
        ):
            lines += [*_described(name, kind, text), f"bloomery_{name} {value}"]
        for name, text, histogram in (
            (
                "time_to_first_token_seconds",
                "From a body that was read to its first token.",
                self.first_token_seconds,
            ),
            (
                "completion_seconds",
                "From a body that was read to the end of its answer.",
                self.request_seconds,
            ),
        ):
            lines += [*_described(name, "histogram", text), *histogram.lines(f"bloomery_{name}")]
        return "\n".join(lines) + "\n"


def _described(name: str, kind: str, text: str) -> list[str]:
    return [f"# HELP bloomery_{name} {text}", f"# TYPE bloomery_{name} {kind}"]
