r"""The comments in front of source code, where licence headers stand. Parses no language and removes nothing.

What is a comment is told by its marks alone, the same for all languages: `#`, `//`, `--`, `;` and `%` at the beginning
of a line, `/* */`, `<!-- -->`, `(* *)`, `{- -}`, `--[[ ]]`, three quotation marks and `=begin =end` around lines. In
doubt a line is code.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

# Other marks than slashes need white space, a mark or nothing behind them: `#include`, `#[derive]`, `--count;` and
# `#id {` are code.
_LINE_COMMENT: Final = re.compile(rb"//|(?:#+|--+|;+|%+)(?=[\s*=\-+~_#/;%|]|$)")
_PREPROCESSOR: Final = re.compile(
    rb'#\s+(?:include\s*[<"]|(?:if|ifdef|ifndef|define|undef|pragma)\s+[!(A-Z_]|endif\b|else$)'
)
_BLOCKS: Final = (
    (b"/*", b"*/"),
    (b"<!--", b"-->"),
    (b"(*", b"*)"),
    (b"{-", b"-}"),
    (b"--[[", b"]]"),
    (b'"""', b'"""'),
    (b"'''", b"'''"),
    (b'r"""', b'"""'),
    (b"=begin", b"=end"),
)
# What may stand in front of the first comment. It has to be the first line, so it stays.
_PREAMBLE: Final = re.compile(rb"#!(?!\[)|<\?php|<\?xml|<!doctype", re.IGNORECASE)
# Comments that tell something to a program: encodings, build constraints, editors, linters; and to our own rule that
# drops generated code, which comes later.
_DIRECTIVE: Final = re.compile(
    rb"coding[:=]|-\*-|\bvim?:|go:build|\+build|frozen_string_literal|swift-tools-version|\bnoqa\b|pylint|mypy:|"
    rb"type:\s*ignore|fmt:|eslint|@ts-|@flow|@jsx|shellcheck|clang-format|istanbul|generated|do not edit",
    re.IGNORECASE,
)
_MARKS: Final = b" \t\r\f\v*/#;%-=!<>\"'|+~_.{}()[]"


@dataclass(frozen=True, slots=True)
class Comment:
    """Neighbouring lines that are one comment, by their numbers from 0.

    Attributes:
        begin: First line.
        end: Line behind the last.
        delimited: Whether the first line opens it and the last one closes it, so that they only go together.
    """

    begin: int
    end: int
    delimited: bool


def leading_comments(lines: Sequence[bytes]) -> list[Comment]:
    """The comments before the first line of code, in order; blank lines may stand between them.

    Neighbouring line comments are one. A comment that is never closed, or that has code behind its end, is code.
    Takes time linear in the lines up to there.
    """
    comments: list[Comment] = []
    number = 0
    while number < len(lines):
        line = lines[number].strip()
        end = _end_of_comment(lines, number, line)
        if end is not None:
            comments.append(Comment(number, end[0], end[1]))
            number = end[0]
        elif not line or _PREAMBLE.match(line):
            number += 1
        else:
            break
    return comments


def comment_text(line: bytes) -> bytes:
    """What a line of a comment says, without its marks, so that one licence is the same in all languages."""
    return line.strip(_MARKS)


def is_directive(line: bytes) -> bool:
    """Whether a line of a comment tells something to a program."""
    return _DIRECTIVE.search(line) is not None


def _end_of_comment(lines: Sequence[bytes], begin: int, line: bytes) -> tuple[int, bool] | None:
    """(line behind it, whether it is delimited) of the comment that begins in line `begin`; None when none does."""
    for opening, closing in _BLOCKS:
        if line.startswith(opening):
            end = _end_of_block(lines, begin, opening, closing)
            return None if end is None else (end, True)
    end = begin
    while end < len(lines) and _is_line_comment(lines[end].strip()):
        end += 1
    return (end, False) if end > begin else None


def _is_line_comment(line: bytes) -> bool:
    return (
        _LINE_COMMENT.match(line) is not None
        and not _PREPROCESSOR.match(line)
        and not line.startswith(b"--[[")
    )


def _end_of_block(lines: Sequence[bytes], begin: int, opening: bytes, closing: bytes) -> int | None:
    """The line behind the block comment that opens in line `begin`; None when it is not made of whole lines."""
    place = lines[begin].index(opening) + len(opening)
    for number in range(begin, len(lines)):
        found = lines[number].find(closing, place if number == begin else 0)
        if found >= 0:
            behind = lines[number][found + len(closing) :].strip()
            return None if behind else number + 1
    return None
