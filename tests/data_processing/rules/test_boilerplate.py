"""Wrappers, lines and paragraphs that are not the text."""

import ast
import random
import sysconfig
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from data_processing.rules.boilerplate import (
    LINE_SEED,
    TEXT_BYTES,
    line_hashes,
    paragraph_hashes,
    remove_lines,
    remove_paragraphs,
    strip_wrapper,
)
from data_processing.rules.leading_comments import leading_comments
from data_processing.text_cleaner import TextCleaner
from tests.growth import assert_grows_linearly
from tests.small_texts import WORDS, make_text

LICENCE = [f"{number}. The licensee shall not {verb} clause {number} of this licence." for number in range(1, 161)
           for verb in ("modify", "omit")]  # fmt: skip
NAVIGATION_ABOVE = ["Skip to content", "Home", "Products", "About us", "Contact"]
NAVIGATION_BELOW = [
    "Follow us on all channels",
    "Privacy policy and cookies",
    "Copyright 2024 Bloom & Slag Ltd.",
]


def recurring(texts: Iterable[str], *, code: bool = False, at_least: int = 10) -> frozenset[int]:
    """The hashes of lines that stand in `at_least` texts."""
    counts = Counter(value for text in texts for value in line_hashes(text, code=code).tolist())
    return frozenset(value for value, number in counts.items() if number >= at_least)


def stripped(texts: Sequence[str], *, code: bool = False) -> list[str]:
    lines = recurring(texts, code=code)
    return [remove_lines(text, lines, code=code) for text in texts]


def make_bodies(number: int, *, sentences: int = 12) -> list[str]:
    generator = random.Random(number)
    return [f"Text {index}.\n\n" + make_text(generator, sentences) for index in range(number)]


# ---- Project Gutenberg ----

BEGINNINGS_AND_ENDS = {
    "__2011-05-03-76.txt": ("ADVENTURES OF HUCKLEBERRY FINN", "THE END. YOURS TRULY, HUCK FINN."),
    "__76-0.txt": ("ADVENTURES", "THE END. YOURS TRULY, _HUCK FINN_."),
    "__76.txt": ("ADVENTURES OF HUCKLEBERRY FINN", "THE END. YOURS TRULY, HUCK FINN."),
    "__hfinn10.txt": ("THE ADVENTURES OF HUCKLEBERRY FINN", "THE END"),
    "__hfinn11.txt": ("THE ADVENTURES OF HUCKLEBERRY FINN", "THE END"),
    "__hfinn12.txt": ("NOTICE", "and sivilize me, and I can't stand it.  I been there before."),
    "__11-0.txt": ("ALICE’S ADVENTURES IN WONDERLAND", "THE END"),
    "__11.txt": ("ALICE'S ADVENTURES IN WONDERLAND", "THE END"),
    "__alice30.txt": ("ALICE'S ADVENTURES IN WONDERLAND", "THE END"),
    "__972.txt": ("THE DEVIL'S DICTIONARY", "Nature_) that the domestic cow sheds its horn every two years."),
    "__dvldc10.txt": (
        "THE DEVIL'S DICTIONARY",
        "Nature_) that the domestic cow sheds its horn every two years.",
    ),
    "__15122-8.txt": ("THE LITTLE COLONEL'S HERO", "THE MINUTE BOYS OF YORKTOWN"),
    "__15122.txt": ("THE LITTLE COLONEL'S HERO", "THE MINUTE BOYS OF YORKTOWN"),
}


@pytest.mark.parametrize("cleaned", [True, False], ids=["cleaned", "as read"])
@pytest.mark.parametrize("name", BEGINNINGS_AND_ENDS)
def test_of_a_real_book_the_first_page_to_the_last_sentence_is_left(
    real_data: Path, name: str, cleaned: bool
):
    [path] = (real_data / "books").glob(f"*{name}")
    data = path.read_bytes()
    text = data.decode("utf-8-sig") if name.endswith("-0.txt") else data.decode("latin-1")
    if cleaned:
        text = TextCleaner().clean(text)
    inside, wrapper = strip_wrapper(text)
    lines = [line.strip() for line in inside.splitlines() if line.strip()]
    assert wrapper == "project_gutenberg"
    assert (lines[0], lines[-1]) == BEGINNINGS_AND_ENDS[name]
    assert "gutenberg" not in inside.lower()
    assert inside in text
    assert strip_wrapper(inside) == (inside, None)


START = "*** START OF THE PROJECT GUTENBERG EBOOK A TALE ***"
END = "*** END OF THE PROJECT GUTENBERG EBOOK A TALE ***"
HEADER = "The Project Gutenberg eBook of A Tale\n\nTitle: A Tale\n\nRelease Date: May 1, 2021 [eBook #1]\n"
LICENCE_TAIL = "Updated editions will replace the previous one.\n\nTHE FULL PROJECT GUTENBERG LICENSE"


@pytest.mark.parametrize(
    "text",
    [
        f"{HEADER}\n{START}\n\nProduced by Nobody\n\n\nA TALE\n\nOnce.\n\n{END}\n\n{LICENCE_TAIL}",
        f"{START}\n\nA TALE\n\nOnce.\n\n{END}",
        f"{HEADER}\n*** START OF THE PROJECT GUTENBERG EBOOK A TALE OF\nMANY WORDS ***\n\nA TALE\n\nOnce.",
        f"A TALE\n\nOnce.\n\nEnd of Project Gutenberg's A Tale, by Nobody\n\n{END}\n\n{LICENCE_TAIL}",
        f"{HEADER}\n{START}\n\nA TALE\n\nOnce.\n\nEnd of the Project Gutenberg Etext of A Tale\n",
        f"{HEADER}\n*END*THE SMALL PRINT! FOR PUBLIC DOMAIN ETEXTS*Ver.04.29.93*END*\n\nA TALE\n\nOnce.",
        f"{HEADER}\n{START}\n\nA TALE\n\nOnce.\n\n{END}\n\n*END THE SMALL PRINT! FOR PUBLIC DOMAIN*Ver.02/11/02*END*",
    ],
)
def test_a_wrapper_is_removed_whichever_of_its_ends_is_there(text: str):
    assert strip_wrapper(text) == ("A TALE\n\nOnce.", "project_gutenberg")


@pytest.mark.parametrize(
    "text",
    [
        "Project Gutenberg was begun by Michael Hart in 1971.",
        f"Project Gutenberg marks its texts. They begin with the line\n\n{START}\n\nand go on from there.",
        f"Their texts end with\n\n{END}\n\nwhich some programs look for.",
        "In 1971 it began.\n\nEnd of Project Gutenberg's first year. More followed.",
        f"Their texts end with\n\n{END}\n\nand then come the terms of the Project Gutenberg-tm full license.",
        "Johannes Gutenberg printed 180 Bibles.",
        f"{HEADER}\n{START}\n\n{END}\n\n{LICENCE_TAIL}",
    ],
)
def test_a_text_that_only_mentions_the_project_is_left_alone(text: str):
    assert strip_wrapper(text) == (text, None)


# ---- recurring lines ----


def test_forty_short_texts_in_one_long_licence_become_the_short_texts():
    generator = random.Random(0)
    bodies = [
        "\n".join(" ".join(generator.choices(WORDS, k=28)) for _ in range(generator.randint(2, 5)))
        for _ in range(40)
    ]
    assert {len(body.split()) for body in bodies} == {56, 84, 112, 140}
    half = len(LICENCE) // 2
    texts = ["\n".join([*LICENCE[:half], "", body, "", *LICENCE[half:]]) for body in bodies]
    assert len(LICENCE) >= 300
    assert stripped(texts) == bodies


def test_versions_of_one_document_are_left_as_they_are():
    generator = random.Random(1)
    lines = [make_text(generator, 1) for _ in range(300)]
    versions = []
    for _ in range(15):
        version = list(lines)
        for place in generator.sample(range(300), 20):
            version[place] = make_text(generator, 1)
        versions.append("\n".join(version))
    assert len(recurring(versions)) > 250
    assert stripped(versions) == versions
    same = ["\n".join(lines)] * 15
    assert stripped(same) == same


def test_of_web_pages_the_navigation_goes_and_the_text_stays():
    bodies = make_bodies(30)
    pages = ["\n".join([*NAVIGATION_ABOVE, "", body, "", *NAVIGATION_BELOW]) for body in bodies]
    assert stripped(pages) == bodies


def test_navigation_inside_a_text_leaves_one_blank_line():
    bodies = make_bodies(12)
    menu = ["Share this page with friends", "Read the latest comments", "Subscribe to the newsletter"]
    pages = ["\n".join([body, "", *menu, "", "", "The second half of " + body]) for body in bodies]
    assert stripped(pages) == [body + "\n\nThe second half of " + body for body in bodies]


def test_lines_around_a_run_are_not_joined():
    run = "All rights reserved. " * 6
    texts = [f"{body} one\n{run}\ntwo {body}" for body in make_bodies(10)]
    assert stripped(texts) == [text.replace(run + "\n", "") for text in texts]


@pytest.mark.parametrize(
    "lines",
    [
        ["CHAPTER I"],
        ["## Summary"],
        ["Yes.", "No.", "Why?"],
        ["```", "fn main() {", "    let mut all = String::new();", "    let mut one = String::new();", "}", "```"],
        ["1", "2", "3", "4", "5", "6"],
        ["* * *", "-----"],
    ],
    ids=["heading", "markdown heading", "dialogue", "fenced code", "numbers", "rules"],
)  # fmt: skip
def test_lines_that_recur_without_being_boilerplate_stay(lines: list[str]):
    texts = ["\n".join([body, "", *lines, "", "More of " + body]) for body in make_bodies(20)]
    assert stripped(texts) == texts


def test_ruled_and_blank_lines_do_not_divide_a_run():
    run = [
        "=====",
        "Bloom & Slag monthly",
        "-----",
        "",
        "The paper of the ironworks",
        "",
        "Price: three pence",
        "=====",
    ]
    texts = ["\n".join([body, "", *run, "", "More of " + body]) for body in make_bodies(10)]
    assert stripped(texts) == [f"{body}\n\n=====\n\n=====\n\nMore of {body}" for body in make_bodies(10)]


def make_phrases(number: int, *, words: tuple[int, int]) -> list[str]:
    generator = random.Random(number)
    return [
        " ".join(generator.choices(WORDS, k=generator.randint(*words))).capitalize() + "."
        for _ in range(number)
    ]


def share_lost(texts: Sequence[str]) -> float:
    return 1 - sum(map(len, stripped(texts))) / sum(map(len, texts))


@pytest.mark.parametrize("frequencies", ["even", "like those of words"])
@pytest.mark.parametrize("own", [0, 20], ids=["stock alone", "with speeches of their own"])
def test_plays_from_a_common_stock_of_short_speeches_keep_them(own: int, frequencies: str):
    stock = make_phrases(200, words=(1, 5))
    weights = [1.0 if frequencies == "even" else 1 / place for place in range(1, 201)]
    generator = random.Random(3)
    plays = []
    for _ in range(40):
        scenes = [generator.choices(stock, weights, k=generator.randint(3, 12)) for _ in range(max(own, 9))]
        speeches = [make_text(generator, 3) for _ in range(own)] or [stock[0]] * len(scenes)
        play = [line for scene, speech in zip(scenes, speeches, strict=True) for line in (*scene, speech)]
        plays.append("\n".join(play))
    assert share_lost(plays) <= 0.02


def test_recipes_keep_their_steps_and_songs_their_refrains():
    generator = random.Random(4)
    steps = make_phrases(200, words=(3, 10))
    recipes = [
        "\n".join([make_text(generator, 4), "", *generator.choices(steps, k=12), "", make_text(generator, 4)])
        for _ in range(300)
    ]
    assert share_lost(recipes) <= 0.02
    hooks = make_phrases(60, words=(2, 5))
    songs = []
    for _ in range(100):
        refrain = generator.sample(hooks, 6)
        verses = [make_text(generator, 6).replace(". ", ".\n") for _ in range(4)]
        songs.append("\n\n".join("\n".join([verse, "", *refrain]) for verse in verses))
    assert share_lost(songs) <= 0.02


def test_a_refrain_that_recurs_in_its_order_says_the_same_again_and_stays():
    refrain = ["La la la", "La la la la", "La la la", "La la la la", "Ay, ay", "La la la"]
    songs = ["\n".join([body, "", *refrain, "", "More of " + body]) for body in make_bodies(20)]
    assert stripped(songs) == songs


@pytest.mark.parametrize("inside", [True, False], ids=["inside the text", "around the text"])
def test_blocks_with_one_line_of_each_page_go_but_for_that_line(inside: bool):
    above = [*NAVIGATION_ABOVE, "Breaking news"]
    banner = [
        "We value your privacy",
        "This site uses cookies to remember you.",
        "Accept all or reject all of them",
    ]
    pages, expected = [], []
    for index, body in enumerate(make_bodies(30)):
        own = f"You are reader number {index}"
        front = [body, ""] if inside else []
        pages.append("\n".join([*front, *above, own, *banner, *NAVIGATION_BELOW, "", "More of " + body]))
        expected.append("\n".join([*front, own, "", "More of " + body]))
    assert stripped(pages) == expected


def test_the_lines_of_a_menu_are_kept_where_they_stand_in_another_order():
    generator = random.Random(6)
    menu = [*NAVIGATION_ABOVE, *NAVIGATION_BELOW]
    pages = ["\n".join([body, "", *menu, "", "More of " + body]) for body in make_bodies(20)]
    other = "\n".join([make_bodies(21)[20], "", *generator.sample(menu, len(menu)), "", make_bodies(22)[21]])
    assert remove_lines(pages[0], recurring(pages), code=False) != pages[0]
    assert remove_lines(other, recurring(pages), code=False) == other


def test_nothing_recurs_until_the_number_of_documents_is_reached():
    texts = ["\n".join([*NAVIGATION_ABOVE, body]) for body in make_bodies(9)]
    assert recurring(texts) == frozenset()
    assert remove_lines(texts[0], frozenset(), code=False) is texts[0]


def test_removing_keeps_a_text_as_the_cleaner_left_it():
    pages = ["\n".join([*NAVIGATION_ABOVE, "", "", body, "", *NAVIGATION_BELOW]) for body in make_bodies(10)]
    for text in stripped([TextCleaner().clean(page) for page in pages]):
        assert TextCleaner().clean(text) == text


ALPHABET = [
    "",
    "",
    "Home",
    "About us",
    "-----",
    "```",
    "12",
    "a b",
    "Copyright 2024 Bloom & Slag Ltd.",
    "é",
    "text here",
]
prose = st.lists(
    st.sampled_from([*ALPHABET, *LICENCE[:6], "x" * 210, "y" * 120, "  indented line here"]), max_size=30
)


@given(rows=prose, lines=st.sets(st.sampled_from([*ALPHABET, *LICENCE[:6], "y" * 120, "indented line here"])))
def test_removing_lines_of_prose_again_changes_nothing_and_only_whole_lines_go(
    rows: list[str], lines: set[str]
):
    hashes = frozenset(value for line in lines for value in line_hashes(line, code=False).tolist())
    text = "\n".join(rows)
    once = remove_lines(text, hashes, code=False)
    assert remove_lines(once, hashes, code=False) == once
    rest = iter(rows)
    assert all(row == "" or row in rest for row in once.split("\n"))  # a subsequence
    assert {row for row in rows if row.strip()} - set(once.split("\n")) <= {
        *lines,
        "-----",
        "  indented line here",
    }


@given(rows=prose, passage=prose)
def test_only_lines_of_passages_that_recur_go(rows: list[str], passage: list[str]):
    once = remove_lines(
        "\n".join(rows), frozenset(line_hashes("\n".join(passage), code=False).tolist()), code=False
    )
    rest = iter(rows)
    assert all(row == "" or row in rest for row in once.split("\n"))  # a subsequence
    known = {"", "-----", *(row.strip() for row in passage)}
    assert [row for row in once.split("\n") if row.strip() not in known] == [
        row for row in rows if row.strip() not in known
    ]
    assert once.split("\n").count("12") == rows.count("12")


def test_hashes_are_sorted_unique_and_those_of_each_line_with_those_behind_it():
    menu, sentence, rule = ["Home", "News", "Mail", "Help", "Imprint"], "A sentence of 25 letters.", "=" * 100
    text = "\n".join(["\tHome  ", "", *menu[1:], *[sentence] * 4, rule, "end", rule])
    passages = [
        *("HomeNewsMailHelpImprint", f"NewsMailHelpImprint{sentence}", f"MailHelpImprint{sentence * 2}"),
        *(f"HelpImprint{sentence * 3}", f"Imprint{sentence * 4}", sentence * 3),  # the last one twice
        *(f"{sentence * 2}{rule}", f"{sentence}{rule}end", rule, f"end{rule}"),
    ]
    hashes = line_hashes(text, code=False)
    assert hashes.dtype == np.uint64
    assert hashes.tolist() == sorted(
        xxhash.xxh3_64_intdigest(passage.encode(), LINE_SEED) for passage in passages
    )
    assert line_hashes("", code=False).shape == (0,)
    assert len(line_hashes("\ud800 alone", code=False)) == 1


# ---- code ----

APACHE = [
    "Licensed under the Slag License, Version 2.0 (the License);",
    "you may not use this file except in compliance with the License.",
    "",
    "Unless required by applicable law or agreed to in writing, software",
    "distributed under the License is distributed on an AS IS BASIS.",
]
PYTHON_HEADER = "\n".join(["# " + line if line else "#" for line in ["Copyright 2024 Bloom.", "", *APACHE]])
C_HEADER = "\n".join(["/*", *(" * " + line if line else " *" for line in APACHE), " */"])


def make_functions(number: int) -> list[str]:
    return [
        f"import os\n\n\ndef work_{index}():\n    return {index}  # Licensed\n" for index in range(number)
    ]


def test_of_code_files_the_licence_header_goes_and_every_line_of_code_stays():
    bodies = make_functions(20)
    files = [f"#!/usr/bin/env python\n{PYTHON_HEADER}\n\n{body}" for body in bodies]
    assert stripped(files, code=True) == [f"#!/usr/bin/env python\n\n{body}" for body in bodies]
    for before, after in zip(files, stripped(files, code=True), strict=True):
        assert ast.dump(ast.parse(before)) == ast.dump(ast.parse(after))


def test_of_a_licence_header_with_a_line_of_each_file_that_line_stays():
    above = ["This file is part of the Bloom & Slag distribution.", "It was made in the ironworks at Slagheim.",
             "Its makers are named in the file AUTHORS."]  # fmt: skip
    files, expected = [], []
    for index, body in enumerate(make_functions(20)):
        own = f"# Copyright {2000 + index} by worker number {index}"
        header = [*("# " + line for line in above), own, *("# " + line for line in APACHE if line)]
        files.append("\n".join([*header, "", body]))
        expected.append(f"{own}\n\n{body}")
    assert stripped(files, code=True) == expected


def test_source_files_of_the_standard_library_lose_comments_in_front_of_them_alone():
    paths = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    header = "\n".join(["# " + line for line in APACHE if line])
    files = [header + "\n\n" + path.read_text(encoding="utf-8", errors="replace") for path in paths]
    assert len(files) > 100
    lost = 0
    for before, after in zip(files, stripped(files, code=True), strict=True):
        rows = before.encode().split(b"\n")
        comments = leading_comments(rows)
        code = b"\n".join(rows[comments[-1].end :]).decode()
        assert after.strip("\n").endswith(code.strip("\n"))
        lost += header not in after
    assert lost >= 0.9 * len(files)


def test_a_licence_is_the_same_under_the_marks_of_another_language():
    python = [f"{PYTHON_HEADER}\n\n{body}" for body in make_functions(10)]
    c = f"{C_HEADER}\n\nint main(void) {{ return 0; }}\n"
    assert remove_lines(c, recurring(python, code=True), code=True) == "int main(void) { return 0; }\n"


def test_code_that_recurs_stays():
    shared = "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n#define WIDTH 100\n#pragma once\n"
    files = [f"{shared}\nint work_{index}(void) {{\n    return {index};\n}}\n" for index in range(20)]
    assert stripped(files, code=True) == files
    styles = [
        f"#header {{\n  color: red;\n}}\n.body-{index} {{ margin: {index}px; }}\n" for index in range(20)
    ]
    assert stripped(styles, code=True) == styles


def test_a_block_comment_with_something_of_its_own_keeps_the_lines_around_it():
    files = [
        f'"""\nWork number {index}.\n\n' + "\n".join(APACHE) + '\n"""\n\nimport os\n' for index in range(20)
    ]
    assert stripped(files, code=True) == [
        f'"""\nWork number {index}.\n\n"""\n\nimport os\n' for index in range(20)
    ]
    opened = [text.replace('"""\nWork', f'"""{APACHE[0]}\nWork') for text in files]
    assert all(text.startswith(f'"""{APACHE[0]}\nWork number') for text in stripped(opened, code=True))


@pytest.mark.parametrize(
    "line",
    [
        "# -*- coding: latin-1 -*-",
        "# vim: set tabstop=4 :",
        "//go:build linux",
        "# Code generated by slag. DO NOT EDIT.",
    ],
)
def test_lines_that_speak_to_programs_stay(line: str):
    files = [f"{line}\n{PYTHON_HEADER}\n\n{body}" for body in make_functions(20)]
    assert stripped(files, code=True) == [f"{line}\n\n{body}" for body in make_functions(20)]


def test_a_file_of_comments_alone_is_left_alone():
    files = [PYTHON_HEADER + "\n"] * 20
    assert stripped(files, code=True) == files


def test_a_comment_without_an_end_is_code():
    files = [f"/*\n * {APACHE[0]}\n * {APACHE[1]}\n\nint x = {index};\n" for index in range(20)]
    assert all(line_hashes(text, code=True).shape == (0,) for text in files)


CODE_ROWS = [
    *(
        "",
        "#!/bin/sh",
        "# Licensed under A B",
        "#",
        "####",
        "# of your own",
        "/*",
        " * Licensed under A B",
        " */",
    ),
    *(
        "/* one line of it */",
        '"""',
        '"""Licensed under A B',
        "x = 1",
        "# coding: utf-8",
        "<?php",
        "// Licensed",
    ),
]
COMMENTS = ["Licensed under A B", "one line of it", "Licensed", "of your own"]


@given(rows=st.lists(st.sampled_from(CODE_ROWS), max_size=20), words=st.sets(st.sampled_from(COMMENTS)))
def test_removing_lines_of_code_again_changes_nothing_and_no_code_goes(rows: list[str], words: set[str]):
    hashes = frozenset(value for word in words for value in line_hashes(word, code=False).tolist())
    text = "\n".join(rows)
    once = remove_lines(text, hashes, code=True)
    assert remove_lines(once, hashes, code=True) == once
    for kept in ("x = 1", "#!/bin/sh", "<?php", "# coding: utf-8"):
        assert once.split("\n").count(kept) == rows.count(kept)


@given(
    rows=st.lists(st.sampled_from(CODE_ROWS), max_size=20),
    passage=st.lists(st.sampled_from(CODE_ROWS), max_size=20),
)
def test_no_code_goes_with_passages_that_recur(rows: list[str], passage: list[str]):
    hashes = frozenset(line_hashes("\n".join(passage), code=True).tolist())
    once = remove_lines("\n".join(rows), hashes, code=True)
    rest = iter(rows)
    assert all(row in rest for row in once.split("\n") if row)  # a subsequence
    comments = leading_comments([row.encode() for row in rows])
    code = rows[comments[-1].end if comments else 0 :]
    assert once.strip("\n").endswith("\n".join(code).strip("\n"))
    assert once.split("\n").count("# coding: utf-8") == rows.count("# coding: utf-8")


# ---- paragraphs ----

A, B, C = (
    "The bloom is a mass of iron and slag, " * 3,
    "Charcoal burns hot and clean in the furnace. " * 3,
    "Short.",
)


def test_paragraphs_are_hashed_in_order_each_once_whatever_their_white_space():
    text = f"{A}\n\n{C}\n\n{B}\n \n{A.replace(' ', chr(10), 3)}\n\n\n{B}"
    hashes = paragraph_hashes(text, min_characters=100)
    assert hashes.dtype == np.uint64
    assert hashes.tolist() == [int(paragraph_hashes(p, min_characters=100)[0]) for p in (A, B)]


def test_known_paragraphs_go_with_the_blank_lines_behind_them():
    known = frozenset(paragraph_hashes(A, min_characters=100).tolist())
    assert remove_paragraphs(f"{A}\n\n{B}\n\n\n{C}", known, min_characters=100) == f"{B}\n\n\n{C}"
    assert remove_paragraphs(f"{B}\n\n{A}\n\n{C}", known, min_characters=100) == f"{B}\n\n{C}"
    assert remove_paragraphs(f"{B}\n\n\n{A}", known, min_characters=100) == B
    assert remove_paragraphs(f"{A}\n\n{A}", known, min_characters=100) == ""
    untouched = f"{B}\n\n{C}"
    assert remove_paragraphs(untouched, known, min_characters=100) is untouched


def test_short_paragraphs_are_never_known():
    assert paragraph_hashes(C, min_characters=7).shape == (0,)
    assert paragraph_hashes("a" + " " * 200 + "b", min_characters=20).shape == (0,)


@given(
    parts=st.lists(st.sampled_from([A, B, C, "", " ", "x\ny", "é" * 120]), max_size=12),
    known=st.sets(st.sampled_from([A, B, "é" * 120])),
)
def test_removing_paragraphs_again_changes_nothing_and_the_others_stay(parts: list[str], known: set[str]):
    hashes = frozenset(int(paragraph_hashes(text, min_characters=100)[0]) for text in known)
    once = remove_paragraphs("\n\n".join(parts), hashes, min_characters=100)
    assert remove_paragraphs(once, hashes, min_characters=100) == once
    assert once.split() == " ".join(part for part in parts if part not in known).split()


# ---- time ----


@pytest.mark.parametrize(
    "unit",
    ["\n", " ", "a", "a\n", "#\n", "/*\n", '"""\n', "* ", "\n ", "*** END OF ", "Home\n", "```\n", "\r"],
)
def test_hostile_text_takes_linear_time(unit: str):
    def work(text: str) -> None:
        for code in (False, True):
            remove_lines(text, frozenset(line_hashes(text, code=code).tolist()), code=code)
        strip_wrapper(f"{START}\n\n{text}\n\n{END}")
        known = frozenset(paragraph_hashes(text, min_characters=20).tolist())
        remove_paragraphs(text, known, min_characters=20)

    assert_grows_linearly(work, lambda size: unit * (size // len(unit)), 10_000)


@pytest.mark.parametrize(("num_bytes", "found"), [(TEXT_BYTES, True), (TEXT_BYTES - 1, False)])
def test_a_text_in_a_frame_has_at_least_the_stated_size(num_bytes: int, found: bool):
    texts = ["\n".join([*LICENCE, chr(ord("a") + index) * num_bytes]) for index in range(10)]
    assert [text == clean for text, clean in zip(texts, stripped(texts), strict=True)] == [not found] * 10
