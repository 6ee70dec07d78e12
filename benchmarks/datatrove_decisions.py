"""What datatrove's own filters decide on texts, with white space between words: one JSON line a text in, one out.

Runs under an interpreter that has datatrove 0.10.1, and knows nothing of this repository:

    python -m tests.data_processing.quality_pages | /path/to/python benchmarks/datatrove_decisions.py

A line in is a JSON string. A line out has, for each set of rules, our word (`REASONS`) for the reason that it gave, or
null, and for c4 the digest of the text that is left; with --seconds, also the processor time of each. Words and
sentences are cut as ours are: its own (spaCy's) take most of its time and change decisions.
"""

import hashlib
import json
import sys
import time
from collections.abc import Callable

from datatrove.data import Document
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
    c4_filters,
    fineweb_quality_filter,
    gopher_quality_filter,
    gopher_repetition_filter,
)

REASONS = {
    "gopher_quality": {
        "gopher_short_doc": "gopher_too_few_words",
        "gopher_long_doc": "gopher_too_many_words",
        "gopher_below_avg_threshold": "gopher_short_words",
        "gopher_above_avg_threshold": "gopher_long_words",
        "gopher_too_many_hashes": "gopher_symbol_ratio",
        "gopher_too_many_ellipsis": "gopher_symbol_ratio",
        "gopher_too_many_bullets": "gopher_bullet_lines",
        "gopher_too_many_end_ellipsis": "gopher_ellipsis_lines",
        "gopher_below_alpha_threshold": "gopher_few_alphabetic_words",
        "gopher_enough_stop_words": "gopher_few_stop_words",
    },
    "gopher_repetition": {
        "dup_para_frac": "gopher_duplicate_paragraphs",
        "dup_para_char_frac": "gopher_duplicate_paragraph_characters",
        "dup_line_frac": "gopher_duplicate_lines",
        "dup_line_char_frac": "gopher_duplicate_line_characters",
        **{f"top_{n}_gram": f"gopher_top_{n}gram" for n in (2, 3, 4)},
        **{f"duplicated_{n}_n_grams": f"gopher_duplicate_{n}grams" for n in range(5, 11)},
    },
    "c4": {
        "lorem_ipsum": "c4_lorem_ipsum",
        "curly_bracket": "c4_curly_bracket",
        "too_few_sentences": "c4_too_few_sentences",
    },
    "fineweb": {
        "line_punct_ratio": "fineweb_few_punctuated_lines",
        "short_line_ratio": "fineweb_short_lines",
        "char_dup_ratio": "fineweb_duplicate_line_characters",
        "list_ratio": "fineweb_many_lines",
    },
}


def white_space_words(text: str, language: str) -> list[str]:
    """Words as `str.split` cuts them, in any language."""
    return text.split()


def counted_sentences(line: str, language: str) -> list[str]:
    """As many items as there are sentences by the rule that a . ? or ! at the end of a word ends one.

    Quotation marks and brackets may close behind it. The rule is written here a second time and in another way, so that
    comparing decisions checks it too.
    """
    words = line.split()
    ends = [word for word in words[:-1] if word.rstrip("\"')]”’»").endswith((".", "?", "!"))]
    return [*ends, line] if words else []


def main() -> None:
    """Read texts, write decisions."""
    for module in (gopher_quality_filter, gopher_repetition_filter, fineweb_quality_filter):
        module.split_into_words = white_space_words
    c4_filters.split_into_sentences = counted_sentences
    filters = {
        "gopher_quality": GopherQualityFilter(),
        "gopher_repetition": GopherRepetitionFilter(),
        "c4": C4QualityFilter(),
        "fineweb": FineWebQualityFilter(),
    }
    for line in sys.stdin:
        text = json.loads(line)
        decisions: dict[str, object] = {"text": digest(text)}
        for name, rules in filters.items():
            document = Document(text=text, id="")
            started = time.process_time()
            decisions[name] = decide(rules.filter, document, REASONS[name])
            if "--seconds" in sys.argv[1:]:
                decisions[f"{name}_seconds"] = time.process_time() - started
            if name == "c4":
                decisions["c4_text"] = digest(document.text)
        print(json.dumps(decisions, separators=(",", ":")))


def decide(
    rules: Callable[[Document], bool | tuple[bool, str]], document: Document, reasons: dict[str, str]
) -> str | None:
    """Our word for why the document is dropped, or None."""
    verdict = rules(document)
    if verdict is True:
        return None
    assert isinstance(verdict, tuple)
    return reasons[verdict[1]]


def digest(text: str) -> str:
    """16 hexadecimal digits that stand for a text."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


if __name__ == "__main__":
    main()
