"""The step that leaves out what published rules of quality object to. The rules stand in `gopher_rules`, `c4_rules`,
`fineweb_rules` and `code_rules`."""

from collections.abc import Callable, Mapping
from typing import Any

from core.data_config import QualityConfig, QualityRule
from data_processing.document import Outcome, Step
from data_processing.rules import c4_rules, code_rules, fineweb_rules, gopher_rules
from data_processing.rules.objections import Objection
from data_processing.rules.prose import Prose

ProseRules = Callable[[Prose, QualityConfig], Outcome | Objection | None]
"""(text, thresholds) -> the first objection, or what the rules make of the text, or None: it stays as it is."""

PROSE_RULES: Mapping[QualityRule, ProseRules] = {
    "gopher_quality": gopher_rules.gopher_quality,
    "gopher_repetition": gopher_rules.gopher_repetition,
    "c4": c4_rules.c4,
    "fineweb": fineweb_rules.fineweb,
}
CODE_RULES: Mapping[QualityRule, Callable[[str, QualityConfig], Objection | None]] = {
    "code": code_rules.code_quality,
}

QUALITY_REASONS: Mapping[str, str] = {
    **gopher_rules.REASONS,
    **c4_rules.REASONS,
    **fineweb_rules.REASONS,
    **code_rules.REASONS,
}
"""Reason -> what it means and the setting that changes it."""


def quality_step(config: QualityConfig) -> Step:
    """A step that asks the sets of rules in `config.rules`, in that order; the first objection gives the reason.

    Prose is asked about by the sets for prose, code (`metadata["code"]`) by those for code. What C4 removes from a
    text, the sets after it do not see. `metadata["language"]` matters where it is set before.
    """

    def step(text: str, metadata: dict[str, Any]) -> Outcome:
        return _judge_code(text, config) if metadata.get("code") else _judge_prose(text, metadata, config)

    return step


def _judge_prose(text: str, metadata: Mapping[str, Any], config: QualityConfig) -> Outcome:
    language = metadata.get("language")
    prose = Prose(text, language)
    counts: dict[str, int] = {}
    for name in config.rules:
        if name not in PROSE_RULES:
            continue
        verdict = PROSE_RULES[name](prose, config)
        if isinstance(verdict, Objection):
            return Outcome(text, verdict.reason, verdict.detail)
        if verdict is not None:
            prose = Prose(verdict.text, language)
            counts.update(verdict.counts)
    return Outcome(prose.text, counts=counts)


def _judge_code(text: str, config: QualityConfig) -> Outcome:
    for name in config.rules:
        objection = CODE_RULES[name](text, config) if name in CODE_RULES else None
        if objection is not None:
            return Outcome(text, objection.reason, objection.detail)
    return Outcome(text)
