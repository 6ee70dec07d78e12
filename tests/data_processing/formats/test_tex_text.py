"""LaTeX sources without what only authors and programs see."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_processing.formats.tex_text import TexText, tex_text
from tests.growth import assert_grows_linearly


def body(source: str) -> str:
    return tex_text(f"\\begin{{document}}{source}\\end{{document}}").text


def test_the_preamble_and_what_follows_the_end_are_left_out():
    preamble = "\\documentclass{a}\n\\title{On {\\bf iron} \\\\ and \\} steel}\n"
    source = f"{preamble}\\begin{{document}}\nText.\n\\end{{document}}\nx"
    assert tex_text(source) == TexText("\nText.\n", "On {\\bf iron} and \\} steel")


def test_a_source_without_a_body_is_kept_whole_but_for_comments():
    assert tex_text("a % b\n% c\nd\\\\%e\n") == TexText("a \nd\\\\\n", "")
    assert tex_text("% \\begin{document}\nchapter").text == "chapter"


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (r"50\% pure", r"50\% pure"),
        ("a\\\\% b\nc", "a\\\\\nc"),
        ("one\n  % a comment\ntwo", "one\n  two"),
        ("one\n\n% a comment\n\ntwo", "one\n\n\ntwo"),
        (r"\url{http://a/b%20c} and \href{a%b}{c}", r"\url{http://a/b%20c} and \href{a%b}{c}"),
        (r"\verb|a%b| and \verb*+%+ % c", r"\verb|a%b| and \verb*+%+ "),
        ("\\begin{verbatim}\n% kept\n\\end{verbatim}", "\\begin{verbatim}\n% kept\n\\end{verbatim}"),
        ("\\begin{lstlisting}[x]\n%%\n\\end{lstlisting}% c", "\\begin{lstlisting}[x]\n%%\n\\end{lstlisting}"),
        ("a\\begin{comment}\nb\n\\end{comment}c", "ac"),
        ("\\begin{comment} without end", "\\begin{comment} without end"),
        ("a\n\\bibliographystyle{plain}\n\\bibliography{refs,more}\nb", "a\n\n\nb"),
        ("\\begin{thebibliography}{9}\\bibitem{a} b\\end{thebibliography}c", "c"),
        (r"$x^2$ \cite{a} \bibliographyfoo", r"$x^2$ \cite{a} \bibliographyfoo"),
        ("\\input{chapter}", "\\input{chapter}"),
    ],
)
def test_comments_and_literature_go_and_everything_else_stays(source: str, text: str):
    assert body(source) == text


def test_a_title_may_be_missing_or_forget_its_brace():
    assert tex_text("\\title{" + "long " * 1000).title == ""
    assert tex_text("\\title[short]{Long}").title == "Long"
    assert tex_text("no title").title == ""


@given(st.text(st.sampled_from("ab \n\\{}$")))
def test_without_percent_signs_and_commands_nothing_changes(source: str):
    assert tex_text(source).text == source


@pytest.mark.parametrize(
    "piece",
    [
        *(
            "%",
            "\\begin{comment}",
            "\\begin{verbatim}",
            "\\verb|",
            "\\verb",
            "\\url{",
            "\\title{",
            "\\title[",
        ),
        *("\\bibliography[", "\\bibliography{", "    %", "\\begin ", "\\begin{document}", "{", "\\"),
    ],
)
def test_beginnings_without_an_end_take_time_in_proportion_to_their_number(piece: str):
    assert_grows_linearly(tex_text, lambda number: piece * number, 5000)
