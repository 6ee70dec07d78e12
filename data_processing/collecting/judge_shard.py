"""From a shard of cleaned texts to a judged one: the second half of collecting, one call a part, in any process.

Which lines recur across documents was found before (`recurrence`) and comes in as hashes. What is decided here depends
on one document and those hashes; duplicates of it and of its paragraphs are found afterwards (`corpus_assembly`) by the
digests that are written here.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from core.data_config import (
    BlocklistConfig,
    DataConfig,
    DecontaminationConfig,
    LanguageConfig,
    PrivacyConfig,
    QualityConfig,
)
from core.errors import DataError
from core.files import sha256_file, sha256_json
from data_processing.collecting.read_shard import library_versions
from data_processing.collecting.shard_files import Item, read_array, read_items, write_array, write_items
from data_processing.collecting.shard_store import ShardStore
from data_processing.document import BatchStep, Document, Outcome, Step, excerpt, utf8_size
from data_processing.duplicates.minhash import NUM_BANDS, band_hashes
from data_processing.rows.splits import text_key
from data_processing.rules.blocklist import BlockedDocuments, blocklist_step
from data_processing.rules.boilerplate import paragraph_hashes, remove_lines
from data_processing.rules.decontaminate import decontamination_step
from data_processing.rules.language import language_step
from data_processing.rules.privacy import privacy_step
from data_processing.rules.quality import quality_step
from data_processing.text_cleaner import TextCleaner

JUDGE_VERSION = 2
"""To be raised when what comes out changes under equal settings: shards of earlier versions are then judged anew."""

INDEX_TYPE = np.dtype([("digest", "<u8", 2), ("num_characters", "<u4"), ("kept", "?")])

PARAGRAPH_TYPE = np.dtype([("hash", "<u8"), ("row", "<u4")])


@dataclass(frozen=True)
class JudgeSettings:
    """What decides which documents stay and what their texts become, beside recurring lines and duplicates.

    Attributes:
        cleaner: Its limits are asked here.
        files: Content fingerprints of the files that settings name (blocklists, evaluation data).
        paragraph_min_characters: Shortest paragraph whose hash is written, so that it can be removed where an earlier
            document has it; None = none is.
        near_duplicates: Whether MinHash bands are written.
    """

    cleaner: TextCleaner
    languages: LanguageConfig
    quality: QualityConfig
    privacy: PrivacyConfig
    blocklist: BlocklistConfig
    decontamination: DecontaminationConfig
    files: tuple[str, ...] = ()
    paragraph_min_characters: int | None = None
    near_duplicates: bool = True

    @classmethod
    def of(cls, config: DataConfig, cleaner: TextCleaner) -> "JudgeSettings":
        """What a configuration says, with a cleaner that may be the caller's own.

        Raises:
            DataError: a file that it names cannot be read.
        """
        return cls(
            cleaner,
            config.languages,
            config.quality,
            config.privacy,
            config.blocklist,
            config.decontamination,
            _digests_of_named_files(config),
            config.duplicates.paragraph_min_characters if config.duplicates.paragraphs else None,
            config.duplicates.near != "off",
        )

    def fingerprint(self) -> str:
        """One digest over all of it."""
        return sha256_json(
            [
                JUDGE_VERSION,
                *library_versions(("py3langid", "pyarrow")),
                self.cleaner.fingerprint(),
                *(
                    section.to_dict()
                    for section in (
                        self.languages,
                        self.quality,
                        self.privacy,
                        self.blocklist,
                        self.decontamination,
                    )
                ),
                self.files,
                self.paragraph_min_characters,
                self.near_duplicates,
            ]
        )


def _digests_of_named_files(config: DataConfig) -> tuple[str, ...]:
    named = (config.blocklist.documents, config.blocklist.patterns, *config.decontamination.files)
    digests = []
    for path in named:
        if path is not None:
            try:
                digests.append(sha256_file(path))
            except OSError as error:
                raise DataError(
                    f"{path}: cannot be read ({error.strerror}); correct data.blocklist or data.decontamination"
                ) from None
    return tuple(digests)


@dataclass(frozen=True)
class JudgeTask:
    """One part of a shard to judge.

    Attributes:
        store: Where shards lie.
        part: Name of the part that was read.
        name: Name of the judged part, which stands for everything that decides it.
        recurring: Name of the array of hashes of lines that recur; None = none of this part's does.
        forgotten: Sources that the user wants out.
    """

    store: ShardStore
    part: str
    name: str
    settings: JudgeSettings
    recurring: str | None = None
    forgotten: frozenset[str] = frozenset()


BATCH_DOCUMENTS = 256
"""So many documents take each step together. Arbitrary: with 64, telling the language costs a fifth more, with 1024 no
less."""


def judge_shard(task: JudgeTask) -> str:
    """The name of the judged part; its table, which is written last, index and bands are there when it returns."""
    judge = _Judge(task)
    items = list(read_items(task.store, task.part + ".items"))
    index = np.zeros(len(items), dtype=INDEX_TYPE)
    bands = np.zeros((NUM_BANDS if task.settings.near_duplicates else 0, len(items)), dtype=np.uint64)
    paragraphs = [np.empty(0, dtype=PARAGRAPH_TYPE)]
    for begin in range(0, len(items), BATCH_DOCUMENTS):
        batch = items[begin : begin + BATCH_DOCUMENTS]
        judge.judge(batch)
        kept = [(row, item) for row, item in enumerate(batch, start=begin) if not item.reason]
        for row, item in kept:
            digest = np.frombuffer(bytes.fromhex(text_key(item.text)), dtype="<u8")
            index[row] = (digest, len(item.text), True)
            if task.settings.paragraph_min_characters is not None and not item.metadata.get("code"):
                hashes = paragraph_hashes(item.text, min_characters=task.settings.paragraph_min_characters)
                paragraphs.append(np.array([(value, row) for value in hashes.tolist()], dtype=PARAGRAPH_TYPE))
        if task.settings.near_duplicates and kept:
            bands[:, [row for row, _ in kept]] = band_hashes([item.text for _, item in kept])
    write_array(task.store, f"{task.name}.index", index)
    write_array(task.store, f"{task.name}.bands", bands)
    if task.settings.paragraph_min_characters is not None:
        write_array(task.store, f"{task.name}.paragraphs", np.sort(np.concatenate(paragraphs)))
    write_items(task.store, f"{task.name}.items", items)
    return task.name


class _Judge:
    """The steps of one task, in their order."""

    def __init__(self, task: JudgeTask) -> None:
        self._settings = task.settings
        self._forgotten = task.forgotten
        self._recurring: set[int] = set()
        if task.recurring is not None:
            self._recurring = set(read_array(task.store, task.recurring).tolist())
        self._limits = one_by_one(limits_step(task.settings.cleaner))
        self._steps = [
            ("recurring_lines", one_by_one(self._without_recurring_lines)),
            ("limits", self._limits),
            *_steps_of(task.settings),
        ]
        self._blocked = _blocked_documents(task.settings)

    def judge(self, items: Sequence[Item]) -> None:
        """Change each item that is still in to what becomes of it."""
        going = [(item, item.text) for item in items if not item.reason and not self._is_unwanted(item)]
        for name, step in self._steps:
            going = self._take(step, name, going)
        # Asked first, the limits saved the other steps their work; what those removed may have made a text too short.
        self._take(
            self._limits, "limits", [(item, before) for item, before in going if item.text is not before]
        )

    def _take(self, step: BatchStep, name: str, going: list[tuple[Item, str]]) -> list[tuple[Item, str]]:
        """Carry out one step on items, each beside the text that it came with; those that go on."""
        outcomes = step([item.text for item, _ in going], [item.metadata for item, _ in going])
        for (item, before), outcome in zip(going, outcomes, strict=True):
            _apply(outcome, name, item, before)
        return [pair for pair in going if not pair[0].reason]

    def _is_unwanted(self, item: Item) -> bool:
        """Whether somebody wants it out whatever its text; it is dropped then, and nothing of it is kept."""
        if item.source in self._forgotten:
            item.dropped("forgotten", "", "")
        elif (detail := self._is_blocked(item)) is not None:
            item.dropped("blocklisted", detail, "")
        return bool(item.reason)

    def _is_blocked(self, item: Item) -> str | None:
        if self._blocked is None:
            return None
        return self._blocked.is_blocked(Document(item.text, item.id, item.source, item.metadata))

    def _without_recurring_lines(self, text: str, metadata: dict[str, Any]) -> Outcome:
        if not self._recurring:
            return Outcome(text)
        return Outcome(remove_lines(text, self._recurring, code=bool(metadata.get("code"))))


def _apply(outcome: Outcome, step: str, item: Item, before: str) -> None:
    """Change `item`, whose text was `before` when it came, to what a step made of it."""
    for kind, number in outcome.counts.items():
        item.counts[kind] = item.counts.get(kind, 0) + number
    if outcome.reason is not None:
        sample = "" if outcome.reason in WITHOUT_SAMPLE else excerpt(before)
        item.dropped(outcome.reason, outcome.detail, sample)
    elif outcome.text is not item.text:
        if removed := utf8_size(item.text) - utf8_size(outcome.text):
            item.removed[step] = item.removed.get(step, 0) + removed
        item.text = outcome.text


WITHOUT_SAMPLE = frozenset({"personal_data", "blocklisted"})
"""Reasons whose documents hold what nobody wants to see again, a report included."""

_CACHE: dict[str, Any] = {}
"""What a process built for the settings it saw last: some steps read files or compile thousands of words."""


def _steps_of(settings: JudgeSettings) -> list[tuple[str, BatchStep]]:
    steps: list[tuple[str, BatchStep]] = _once(settings, "steps", lambda: judging_steps(settings))
    return steps


def _blocked_documents(settings: JudgeSettings) -> BlockedDocuments | None:
    path = settings.blocklist.documents
    if path is None:
        return None
    blocked: BlockedDocuments = _once(settings, "blocked", lambda: BlockedDocuments.from_file(path))
    return blocked


def _once(settings: JudgeSettings, what: str, build: Callable[[], Any]) -> Any:
    key = f"{what}:{settings.fingerprint()}"
    if key not in _CACHE:
        for other in [other for other in _CACHE if other.startswith(f"{what}:")]:
            del _CACHE[other]
        _CACHE[key] = build()
    return _CACHE[key]


def judging_steps(settings: JudgeSettings) -> list[tuple[str, BatchStep]]:
    """The steps behind the limits, by name, in their order; the first that objects gives the reason."""
    steps: list[tuple[str, BatchStep]] = []
    if settings.blocklist.patterns is not None:
        steps.append(("blocklist", one_by_one(blocklist_step(settings.blocklist))))
    if settings.languages.detect or settings.languages.keep:
        steps.append(("language", language_step(settings.languages)))
    if settings.quality.rules:
        steps.append(("quality", one_by_one(quality_step(settings.quality))))
    if settings.decontamination.files:
        steps.append(("decontamination", one_by_one(decontamination_step(settings.decontamination))))
    if any(treatment != "keep" for treatment in settings.privacy.to_dict().values()):
        steps.append(("personal_data", one_by_one(privacy_step(settings.privacy))))
    return steps


def limits_step(cleaner: TextCleaner) -> Step:
    """The limits of a cleaner (length, web addresses, damage) as a step."""

    def step(text: str, _metadata: dict[str, Any]) -> Outcome:
        reason = cleaner.reason_to_drop(text)
        return Outcome(text) if reason is None else Outcome(text, reason, cleaner.explain(text, reason))

    return step


def one_by_one(step: Step) -> BatchStep:
    """`step` for several documents, one after the other."""

    def batch_step(texts: Sequence[str], metadata: Sequence[dict[str, Any]]) -> list[Outcome]:
        return list(map(step, texts, metadata))

    return batch_step
