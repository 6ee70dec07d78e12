"""Rules for source code that is minified, generated or data, after The Stack (Kocetkov et al. 2022) and its models.

Thresholds of lines and of letters are those of StarCoder (Li et al. 2023, section 3). What says that a file was
generated, and what counts as data, goes after StarCoder2 (Lozhkov et al. 2024, section 2), narrowed: of the 1,758 files
of Python 3.11's standard library 71 are dropped as generated, which they are, and one for a line of 1,181 characters.
"""

import re
from collections.abc import Mapping

from core.data_config import QualityConfig
from data_processing.document import excerpt
from data_processing.rules.objections import Objection, above, below, share

REASONS: Mapping[str, str] = {
    "code_minified": "a line longer than data.quality.code_max_line_length",
    "code_long_lines": "mean line longer than data.quality.code_max_mean_line_length",
    "code_few_alphanumeric": "fewer letters and digits than data.quality.code_min_alphanumeric",
    "code_generated": "says that it was generated; data.quality.code_drop_generated=false keeps it",
    "code_data": "more of it in long literals (numbers, base64, hexadecimal) than data.quality.code_max_data_share",
}
"""Reason -> what it means and the setting that changes it."""

_HEAD_LINES, _HEAD_CHARACTERS = 20, 4000
"""Where a file says that it was generated; a licence may come before. Arbitrary."""

_GENERATED = re.compile(
    r"""
    @generated\b
    | (?:^\W{0,10} | \b(?:file|code|content|header|module|source)[ ](?:(?:is|was|has[ ]been)[ ])?)
      (?:auto(?:matically)?|machine|programmatically)[ -]?generated\b
    | ^\W{0,10}(?:\w+[ ])?(?:file|code|content)[ ](?:(?:is|was|has[ ]been)[ ])?generated\b
    | ^\W{0,10}(?-i:Generated)[ ](?:by|from|with|using)\b
    | \bgenerated\b[^\n]{0,100}[ ](?:by|from|with)[ ][`'"]?[\w./-]{1,100}\.(?:py|pl|rb|sh|js|go)\b
    | \bdo[ ]not[ ](?:edit|modify)\b(?![ ]this[ ]line)
    """,
    re.IGNORECASE | re.VERBOSE | re.MULTILINE,
)

# Possessive, and each begins only where its characters do, so that they take linear time. As three patterns, the first
# of which begins with a plain digit, they take 20 ns a character; as one 70.
_NUMBER_END = r"[uUlLfF]{0,3} (?: [\s,;|(){}[\]]++ | $ )"
_NUMBERS = re.compile(
    rf"""
    # a number that is no part of a name
    [0-9] (?<![\w.][0-9]) (?: (?<=0)[xX][0-9a-fA-F]++ | [0-9]*+ (?:\.[0-9]*+)? (?:[eE][-+]?[0-9]++)? ) {_NUMBER_END}
    # and more, with nothing between them but separators and line ends
    (?: [-+]? (?: 0[xX][0-9a-fA-F]++ | [0-9]++ (?:\.[0-9]*+)? (?:[eE][-+]?[0-9]++)? ) {_NUMBER_END} ){{15,}}+
    """,
    re.VERBOSE,
)
_ESCAPES = re.compile(r"(?:\\(?:x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|[0-7]{1,3})){16,}+")
_ENCODED_CHARACTERS = 64
_ENCODED = re.compile(rf"(?<![\w+/])[A-Za-z0-9+/]{{{_ENCODED_CHARACTERS},}}+={{0,2}}")
"""Base64, or hexadecimal without spaces."""
_DIGIT = re.compile(r"[0-9]")
_ASCII = re.compile(r"[\x00-\x7f]+")
_ASCII_NOT_ALPHANUMERIC = bytes(code for code in range(128) if not chr(code).isalnum())


def code_quality(text: str, config: QualityConfig) -> Objection | None:
    """The first objection to the length of lines, to characters, to where the text comes from, to what it holds."""
    lengths = list(map(len, text.splitlines()))
    return (
        above("code_minified", max(lengths, default=0), config.code_max_line_length, "characters in a line")
        or above(
            "code_long_lines",
            share(sum(lengths), len(lengths)),
            config.code_max_mean_line_length,
            "characters in the mean line",
        )
        or below(
            "code_few_alphanumeric",
            share(_num_alphanumeric(text), len(text)),
            config.code_min_alphanumeric,
            "of the characters are letters or digits",
        )
        or (_generated_objection(text) if config.code_drop_generated else None)
        or _data_objection(text, config.code_max_data_share)
    )


def _num_alphanumeric(text: str) -> int:
    """Letters and digits in `text`."""
    # Character by character this took a third of the time of all rules.
    in_ascii = len(text.encode("ascii", "ignore").translate(None, _ASCII_NOT_ALPHANUMERIC))
    return in_ascii + sum(map(str.isalnum, _ASCII.sub("", text)))


def _generated_objection(text: str) -> Objection | None:
    head = "\n".join(text[:_HEAD_CHARACTERS].split("\n", _HEAD_LINES)[:_HEAD_LINES])
    found = _GENERATED.search(head)
    if found is None:
        return None
    line = head[head.rfind("\n", 0, found.end()) + 1 :].partition("\n")[0]
    return Objection("code_generated", f"says {excerpt(line.strip())!r}")


def _data_objection(text: str, most: float | None) -> Objection | None:
    if most is None:
        return None
    literals = [match[0] for pattern in (_NUMBERS, _ESCAPES) for match in pattern.finditer(text)]
    for line in text.splitlines():
        if len(line) >= _ENCODED_CHARACTERS:
            # A line of slashes or a long name looks like base64 but for the digits.
            literals += [encoded for encoded in _ENCODED.findall(line) if _DIGIT.search(encoded)]
    return above(
        "code_data", share(sum(map(len, literals)), len(text)), most, "of the characters in long literals"
    )
