"""What counts as a comment in front of code."""

import pytest

from data_processing.rules.leading_comments import Comment, comment_text, leading_comments


def comments(text: str) -> list[Comment]:
    return leading_comments(text.encode().split(b"\n"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# one\n# two\n\nx = 1\n# three", [Comment(0, 2, delimited=False)]),
        ("#!/bin/sh\n# one\necho", [Comment(1, 2, delimited=False)]),
        ("// one\n\n//two\nint x;", [Comment(0, 1, delimited=False), Comment(2, 3, delimited=False)]),
        ("/* a\n b */\n<!-- c -->\nx", [Comment(0, 2, delimited=True), Comment(2, 3, delimited=True)]),
        ("<?php\n/* a */\nx", [Comment(1, 2, delimited=True)]),
        ('"""Title\n\nMore."""\nimport os', [Comment(0, 3, delimited=True)]),
        ("-- sql\n--[[ lua\n]]\nx", [Comment(0, 1, delimited=False), Comment(1, 3, delimited=True)]),
        (
            "(* ml *)\n{- hs -}\n; lisp\n% tex\nx",
            [Comment(0, 1, True), Comment(1, 2, True), Comment(2, 4, False)],
        ),
        ("/* a */ int x;\n/* b */", []),
        ("/* a\nint x;", []),
        ("#include <a>\n// b", []),
        ("# include <a>\n", []),
        ("# define X 1\n", []),
        ("#[derive(Debug)]\n", []),
        ("#id {\n", []),
        ("--count;\n", []),
        ("x = 1\n# one", []),
        ("", []),
    ],
)
def test_only_whole_lines_before_the_first_line_of_code_are_comments(text: str, expected: list[Comment]):
    assert comments(text) == expected


@pytest.mark.parametrize(
    "line", ["# Words (of it).", " * Words (of it).", "// Words (of it).", "<!-- Words (of it). -->"]
)
def test_the_words_of_a_comment_are_the_same_under_all_marks(line: str):
    assert comment_text(line.encode()) == b"Words (of it"


def test_a_ruled_line_has_no_words():
    assert comment_text(b" *****/") == b""
