"""Where private keys, access tokens and passwords stand in a text, and what may stand instead. Decides nothing.

What counts is what issuers document or what scanners of repositories look for: prefixes with lengths. Each search is
bounded and starts at a fixed character, so it takes time linear in the text. What says "example" is nobody's.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from data_processing.rules.personal_data import Found

STAND_IN: Final = "EXAMPLE"
"""Follows the prefix of a token, too short to be taken for one again."""


_WORD: Final = "[A-Za-z0-9_-]"


@dataclass(frozen=True, slots=True)
class _Token:
    """How one kind of token is found.

    Attributes:
        literal: What every text with such a token has; looked for first, at 1,000 MB/s and more.
        pattern: Matches from the end of the prefix on where that is a dash or an underscore, which Python finds as fast
            as a literal, and looks behind from there.
        before: Characters of the token in front of the match.
        kept: Characters of the prefix.
    """

    literal: str
    pattern: re.Pattern[str]
    before: int
    kept: int

    @classmethod
    def of(cls, literal: str, prefix: str, body: str, *, kept: int) -> "_Token":
        """A token of a `prefix` (a pattern of `kept` characters) and a `body`, which stand alone."""
        anchor, before = (prefix[-1], kept - 1) if prefix[-1] in "-_" else (prefix, 0)
        pattern = f"{anchor}(?<={prefix})(?<!{_WORD}{prefix}){body}(?!{_WORD})"
        return cls(literal, re.compile(pattern), before, kept)


_TOKENS: Final = (
    _Token.of("AKIA", "AKIA", "[A-Z0-9]{16}", kept=4),  # Amazon Web Services
    _Token.of("ASIA", "ASIA", "[A-Z0-9]{16}", kept=4),
    _Token.of("AIza", "AIza", f"{_WORD}{{35}}", kept=4),  # Google
    _Token.of("_", "gh[oprsu]_", "[A-Za-z0-9]{36,255}", kept=4),  # GitHub
    _Token.of("_", "github_pat_", "[A-Za-z0-9_]{50,255}", kept=11),
    _Token.of("_", "[rs]k_live_", "[A-Za-z0-9]{16,255}", kept=8),  # Stripe
    _Token.of("_", "hf_", "[A-Za-z0-9]{30,64}", kept=3),  # Hugging Face
    _Token.of("_", "npm_", "[A-Za-z0-9]{36}", kept=4),
    _Token.of("glpat-", "glpat-", f"{_WORD}{{20,64}}", kept=6),  # GitLab
    _Token.of("xox", "xox[abeoprs]-", "[A-Za-z0-9-]{10,255}", kept=5),  # Slack
    _Token.of("sk-", "sk-", f"{_WORD}{{20,255}}", kept=3),  # OpenAI, Anthropic, OpenRouter and others
    # JSON Web Tokens: two objects in base64 and a signature (RFC 7519).
    _Token.of("eyJ", "eyJ", rf"{_WORD}{{10,}}+\.eyJ{_WORD}{{10,}}+\.{_WORD}{{10,}}+", kept=3),
)
_AMAZON_KEYS: Final = tuple(
    (name, re.compile(name + r"[\"']?[ \t]{0,3}[:=]>?[ \t]{0,3}[\"']?([A-Za-z0-9/+]{40})(?![A-Za-z0-9/+=])"))
    for name in ("ccess_key", "ccessKey", "CCESS_KEY")
)

PASSWORD_STAND_IN: Final = "password"
_PASSWORD: Final = re.compile(r"://[^\s/?#:@\"'<>]{0,128}:([^\s/?#@\"'<>]{1,256})@(?=[\w\[])")
# Variables, format fields and words that say what belongs there.
_PLACEHOLDER: Final = re.compile(
    r"[${%<\[].*|\(.*|x+|X+|\*+|\.+|…|(?:(?:my|your|the|db|user)[-_]?)?(?:pass|password|passwd|pwd|pw|secret|token)",
    re.IGNORECASE | re.DOTALL,
)

_KEY_BEGIN: Final = re.compile(r"-----BEGIN (?:[A-Z0-9]{1,20} ){0,3}PRIVATE KEY(?: BLOCK)?-----")
_KEY_MAX_CHARACTERS: Final = 16_000
_KEY_LINE: Final = re.compile(r"[A-Za-z0-9+/=]{40}")
# Escapes such as \n in a literal are passed over first: the letter behind the backslash belongs to them.
_KEY_PIECE: Final = re.compile(r"\\[nrt]|[A-Za-z0-9+/=]{16,}+(?:\s+[A-Za-z0-9+/=]+)*+")
_OPEN_KEY_PIECE: Final = re.compile(r"\\[nrt]|[A-Za-z0-9+/=]{40,}+(?:\s+[A-Za-z0-9+/=]{40,}+)*+")


def find_secrets(text: str, *, code: bool) -> Iterator[Found]:
    """The private keys, access tokens and passwords in URLs in `text`."""
    for token in _TOKENS:
        if token.literal in text:
            yield from _find_tokens(text, token)
    for name, pattern in _AMAZON_KEYS:
        if name in text:
            for match in pattern.finditer(text):
                if not _is_example(match[1]):
                    yield Found(*match.span(1), STAND_IN)
    for match in _PASSWORD.finditer(text):
        if not _PLACEHOLDER.fullmatch(match[1]):
            yield Found(*match.span(1), PASSWORD_STAND_IN)
    if "PRIVATE KEY" in text:
        yield from _find_private_keys(text)


def _find_tokens(text: str, token: _Token) -> Iterator[Found]:
    for match in token.pattern.finditer(text):
        start = match.start() - token.before
        found = text[start : match.end()]
        if _is_drawn(found[token.kept :]) and not _is_example(found):
            yield Found(start, match.end(), found[: token.kept] + STAND_IN)


def _is_drawn(token: str) -> bool:
    """Whether what follows a prefix looks drawn by chance: sk-folding-cube-container, a style's name, does not."""
    # Of Amazon's tokens, 16 upper-case letters and digits, one in six has fewer than two digits.
    return (token.isupper() or sum(map(str.isdigit, token)) >= 2) and re.search(
        "[A-Za-z0-9]{10}", token
    ) is not None


def _is_example(token: str) -> bool:
    return "example" in token.lower()


def _find_private_keys(text: str) -> Iterator[Found]:
    """What stands between the lines around each private key; of one that is cut off, the lines that are full."""
    for match in _KEY_BEGIN.finditer(text):
        start = match.end()
        end = text.find("-----", start, start + _KEY_MAX_CHARACTERS)
        closed = end >= 0 and text.startswith("-----END", end)
        if end < 0:
            end = min(len(text), start + _KEY_MAX_CHARACTERS)
        if _KEY_LINE.search(text, start, end):
            # Piece by piece, so that quotes, escapes and indentation between them stay, and code stays code.
            pieces = _KEY_PIECE if closed else _OPEN_KEY_PIECE
            yield Found(start, end, pieces.sub(_example_of, text[start:end]))


def _example_of(piece: re.Match[str]) -> str:
    return piece[0] if piece[0].startswith("\\") else STAND_IN
