"""Records that are left out, counted by reason, a few of each kept to be looked at. Knows no format."""

from collections import Counter

from data_processing.document import Dropped, escape_unprintable

MAX_SAMPLES = 5
"""Dropped records of each reason that a report names. Arbitrary."""


class DroppedRecords:
    """What was left out so far."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()
        self.samples: dict[str, list[dict[str, str]]] = {}

    def add(self, dropped: Dropped) -> None:
        """Count one more."""
        self.counts[dropped.reason] += 1
        samples = self.samples.setdefault(dropped.reason, [])
        if len(samples) < MAX_SAMPLES:
            # Escaped, because the name of a file need not be UTF-8, and the report is.
            parts = {"source": dropped.source, "detail": dropped.detail, "sample": dropped.sample}
            samples.append({name: escape_unprintable(text) for name, text in parts.items()})

    def __str__(self) -> str:
        """Each reason with its number and the first record, for an error; what there is of them where none is left."""
        found = [
            f"{reason} {number} (first: {self.samples[reason][0]['source']}: {self.samples[reason][0]['detail']})"
            for reason, number in self.counts.items()
        ]
        return "; ".join(found) or "there is none"
