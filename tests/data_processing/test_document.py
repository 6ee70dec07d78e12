"""Identity, size and excerpts of documents."""

from hypothesis import given
from hypothesis import strategies as st

from data_processing.document import SAMPLE_CHARACTERS, Document, document_id, excerpt, utf8_size


def test_the_id_depends_on_source_and_text_and_on_where_one_ends():
    ids = {
        document_id(text, source=source)
        for source, text in [("a", "bc"), ("ab", "c"), ("a", "b"), ("", "abc")]
    }
    assert len(ids) == 4
    assert document_id("bc", source="a") == Document.of("bc", source="a").id


def test_the_id_is_the_same_in_every_version():
    assert document_id("héllo\n", source="a.txt") == "4cb73fd3d147b864e0944363075660d6"


@given(st.text())
def test_the_size_is_that_of_utf8(text: str):
    assert utf8_size(text) == len(text.encode("utf-8", "surrogatepass"))


@given(st.text(st.characters(codec=None, exclude_categories=())))
def test_an_excerpt_can_always_be_written_and_holds_no_control_character(text: str):
    sample = excerpt(text)
    sample.encode("utf-8")
    assert not any(ord(c) < 32 and c not in "\n\t" for c in sample)


def test_a_dropped_document_keeps_source_bytes_format_and_a_short_sample():
    document = Document.of("x" * 1000, source="a.txt", metadata={"format": ".txt"}, num_bytes=1003)
    dropped = document.dropped("too_long", "1000 characters")
    assert (dropped.source, dropped.reason, dropped.detail) == ("a.txt", "too_long", "1000 characters")
    assert (dropped.num_bytes, dropped.format, len(dropped.sample)) == (1003, ".txt", SAMPLE_CHARACTERS)
