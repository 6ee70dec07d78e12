"""The main text of pages, and pages that are made to break a reader."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_processing.formats import html_text
from data_processing.formats.html_text import HtmlReader, HtmlTooDeepError, html_page
from tests.data_processing import web_pages
from tests.growth import assert_grows_linearly

SENTENCE = "The smith heats the iron until it glows, and the hammer falls again. "


@pytest.mark.parametrize(
    ("page", "text", "title"),
    [
        (web_pages.ARTICLE, web_pages.ARTICLE_TEXT, "How iron was made | The Times"),
        (web_pages.DOCUMENTATION, web_pages.DOCUMENTATION_TEXT, "textwrap — Python documentation"),
        (web_pages.CODE, web_pages.CODE_TEXT, "sort.c - source"),
        (web_pages.ONLY_NAVIGATION, "", "Home"),
        ("", "", ""),
        ("no tags at all", "no tags at all", ""),
        ("<p>Hello <b>big</b> world</p><p>And another.", "Hello big world\n\nAnd another.", ""),
    ],
)
def test_the_text_of_a_page_is_what_its_readers_came_for(page: str, text: str, title: str):
    assert html_page(page) == html_text.HtmlPage(text, title)


def test_tables_that_lay_out_a_page_do_not_become_rows():
    text = html_page(web_pages.PYDOC).text
    assert "bisect(a, x)\nReturn the index.\n\n    lo: where to begin" in text.replace("bisect (", "bisect(")
    text = html_page(web_pages.NINETIES).text
    assert "|" not in text
    assert "Set the path to them." in text
    assert "cc -I/usr/include\n   -lxslt" in text


def test_runs_of_links_are_navigation_though_nothing_says_so():
    text = html_page(web_pages.NINETIES).text
    assert [word for word in ("HOME", "DOWNLOAD", "CONTACT", "MIRRORS") if word in text] == []


def test_a_heading_of_nothing_but_links_goes_with_them():
    page = f"<h2>See also</h2><ul>{'<li><a href=x>a link</a>' * 3}</ul><h2>Text</h2><p>{SENTENCE}"
    assert html_page(page).text == f"Text\n\n{SENTENCE.strip()}"
    assert html_page(f"<h1>Only a heading</h1><p>{SENTENCE}<h2>End</h2>").text.endswith("End")


def test_a_page_without_a_main_part_is_taken_whole_and_an_empty_one_is_not_believed():
    assert html_page(f"<div>{SENTENCE}</div>").text == SENTENCE.strip()
    waiting = f"<main id=app></main><div><p>{SENTENCE * 20}</div>"
    assert html_page(waiting).text == (SENTENCE * 20).strip()


@pytest.mark.parametrize("name", ["blog-sidebar-layout", "content-sidebar-wrap", "nav-target", "share"])
def test_an_unlucky_name_does_not_cost_the_text(name: str):
    assert html_page(f"<div class='{name}'><p>{SENTENCE * 3}</p></div><p>End.").text.startswith("The smith")


@pytest.mark.parametrize(
    "opening",
    [
        "<div class=navbar>",
        "<div id=siteFooter>",
        "<div class='a breadcrumbs'>",
        "<div class=cookieConsent>",
        "<div role=navigation>",
        "<div role=search>",
        "<aside>",
        "<ul class='social-share'>",
        "<div class=mainMenu>",
        "<div id=comments>",
        "<div class=disqus_thread>",
        "<header>",
        "<footer>",
    ],
)
def test_what_surrounds_the_text_is_told_by_element_role_and_name(opening: str):
    page = f"<body><p>{SENTENCE * 3}</p>{opening}<p>Some words around it</p></body>"
    assert html_page(page).text == (SENTENCE * 3).strip()


def test_comments_are_left_out_though_they_are_longer_than_the_article():
    page = f"<article><p>{SENTENCE * 2}</p></article><div id=comments><p>{'Great! ' * 100}</p></div>"
    assert html_page(page).text == (SENTENCE * 2).strip()


def test_everything_that_is_seen_is_kept_when_the_page_is_all_text():
    page = "<nav>one</nav><aside>two</aside><p class=sidebar>three<p hidden>four<script>five</script>"
    assert html_page(page, main_only=False).text == "one\n\ntwo\n\nthree"


@pytest.mark.parametrize(
    "formula",
    [
        '<math alttext="x^2"><mi>x</mi><mn>2</mn></math>',
        "<math><semantics><mi>x</mi><annotation encoding='application/x-tex'>x^2</annotation></semantics></math>",
        "<script type='math/tex'>x^2</script>",
        "<img class='mwe-math-fallback-image' alt='x^2' src=a.png>",
        "<span style='display:none'><math alttext='x^2'></math></span><img class=tex alt='x^2'>",
    ],
)
def test_formulas_are_given_as_tex(formula: str):
    assert html_page(f"<p>where {formula} is large").text == "where $x^2$ is large"


def test_formulas_without_tex_keep_their_signs():
    page = "<p>a <math><mi>x</mi><mo>=</mo><annotation encoding='MathML-Content'>no</annotation></math> b"
    assert html_page(page).text == "a x= b"


def test_lines_of_preformatted_text_may_be_elements():
    page = "<pre><div class=line>def f():</div><div class=line>    return 1</div></pre>"
    assert html_page(page).text == "def f():\n    return 1"
    assert html_page("<pre>\n\n  a\r\n<br>b\n\n</pre>").text == "  a\n\nb"


def test_items_are_numbered_and_indented_as_they_are_shown():
    page = "<ol><li>a<ol><li>b<li>c</ol><li><p>d<p>e<li>f</ol><ul><li>g</ul><p>h"
    assert html_page(page).text == "1. a\n  1. b\n  2. c\n2. d\n\ne\n\n3. f\n\n- g\n\nh"


def test_a_page_in_pieces_is_the_page():
    for page in (web_pages.ARTICLE, web_pages.DOCUMENTATION, web_pages.CODE):
        reader = HtmlReader()
        for letter in page:
            reader.feed(letter)
        reader.close()
        assert (reader.take(), reader.title) == (html_page(page).text, html_page(page).title)


def test_text_taken_on_the_way_and_at_the_end_makes_up_the_whole():
    reader = HtmlReader()
    taken = []
    for number in range(10):
        reader.feed(f"<table><tr><td><div class=sidebar>{'<p>' * number}Paragraph {number}.</p></div>")
        taken.append(reader.take())
    reader.close()
    taken.append(reader.take())
    assert " ".join("".join(taken).split()).count("Paragraph") == 10


def test_depth_is_no_matter_up_to_a_limit():
    deep = "<div>" * 9000 + SENTENCE + "</div>" * 9000
    assert html_page(deep).text == SENTENCE.strip()
    with pytest.raises(HtmlTooDeepError, match="10000 deep"):
        html_page("<div>" * 100_000 + SENTENCE)


@pytest.mark.parametrize(
    ("make_page", "size"),
    [
        # Sixteen times the size stays below the depth that is refused.
        (lambda n: "<p><font>" * n, 250),
        # Each end looks through all that is open, so the depth is a factor, which the limit bounds.
        (lambda n: "<div>" * 2000 + "</p>" * n, 1000),
        (lambda n: "".join(f"<b id={number}><p>" for number in range(n)), 1000),
        (lambda n: "<table><tr><td>" * n, 200),
        (lambda n: "<aside>" * n + "<p>text" * 4 * n, 300),
        (lambda n: "<ul><li>" * n, 275),
        (lambda n: "<" * n, 12_500),
        (lambda n: "<!--" * n, 5000),
        (lambda n: "<a href='" * n, 5000),
        (lambda n: "<p class='" + "nav " * n + "'>", 10_000),
        (lambda n: "<p " + " ".join(f"a{number}=1" for number in range(n)) + ">", 2500),
        (lambda n: "<ol start=99999999999999999999><li>x" * n, 250),
        (lambda n: f"<ol start={'9' * n}><li>x", 5000),
        (lambda n: "<title>" + "&amp;" * n, 5000),
        (lambda n: "<p>" + "<br>" * n, 5000),
        (lambda n: "<pre>" + " \n" * n + "</pre>", 5000),
        (lambda n: "<math>" * n + "<annotation encoding=tex>" * n, 250),
        (lambda n: "&#0;&#xD800;&#x110000;\0" * n, 2500),
    ],
    ids=lambda value: value(2)[:20] if callable(value) else "",
)
def test_hostile_pages_take_time_in_proportion_to_their_length(make_page: Callable[[int], str], size: int):
    assert_grows_linearly(html_page, lambda number: make_page(number) + "the end", size)


@given(st.text(st.sampled_from("<>/ap='\" &;!-\n\0é")), st.booleans())
def test_whatever_looks_like_tags_gives_text_or_nothing(page: str, main_only: bool):
    found = html_page(page, main_only=main_only)
    assert found.text == found.text.rstrip()
    assert "\0" not in found.text


@given(st.lists(st.text(st.characters(categories=["L", "N"]), min_size=1), min_size=1))
def test_paragraphs_come_back_word_for_word(paragraphs: list[str]):
    assert html_page("".join(f"<p>{text}</p>" for text in paragraphs)).text == "\n\n".join(paragraphs)
