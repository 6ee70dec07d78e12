"""The standard library as corpus and as questions."""

import hashlib
import inspect
import json
import os
import subprocess
import sys
import sysconfig
import textwrap
from collections.abc import Iterable
from itertools import islice
from pathlib import Path

import pytest

from core.errors import DataError
from data_processing.document import Document
from data_processing.sources import default_corpus
from data_processing.sources.default_corpus import (
    MAX_ANSWER_CHARACTERS,
    documents,
    first_paragraph,
    instruction_records,
    module_files,
)
from data_processing.sources.python_reference import parse_module, public_entries, without_signature


@pytest.fixture(scope="module")
def corpus() -> dict[str, Document]:
    found = list(documents())
    result = {document.source.partition("/")[2]: document for document in found}
    assert len(result) == len(found), "sources are unique"
    return result


@pytest.fixture(scope="module")
def records() -> list[dict[str, str]]:
    return list(instruction_records())


def answers(records: list[dict[str, str]]) -> dict[str, str]:
    return {record["instruction"]: record["response"] for record in records}


def test_the_corpus_has_8_to_15_megabytes_of_source_reference_and_language_topics(
    corpus: dict[str, Document],
):
    assert 8e6 < sum(len(document.text.encode()) for document in corpus.values()) < 15e6
    kinds = {"reference", "topics"}
    assert kinds <= {source.partition("/")[0] for source in corpus}
    assert len(corpus) > 700


def test_sources_are_the_files_of_the_interpreter_to_the_letter(corpus: dict[str, Document]):
    document = corpus["textwrap.py"]
    assert document.text == inspect.getsource(textwrap)
    assert document.metadata["code"] is True


def test_tests_programs_and_tables_are_left_out(corpus: dict[str, Document]):
    for source in corpus:
        assert not {"test", "tests", "idlelib", "lib2to3", "site-packages", "ensurepip"} & set(
            source.split("/")[:-1]
        )
    for table in ("encodings/cp1252.py", "html/entities.py", "pydoc_data/topics.py"):
        assert table not in corpus
    assert "encodings/utf_8.py" in corpus


def test_the_reference_holds_signature_and_docstring_of_source_and_of_c(corpus: dict[str, Document]):
    text = corpus["reference/textwrap.txt"].text
    assert text.startswith("Module textwrap\nText wrapping and filling.\n\n")
    assert f"textwrap.dedent(text)\n{inspect.getdoc(textwrap.dedent)}\n" in text
    assert "itertools.chain" in corpus["reference/itertools.txt"].text
    assert "assert" in corpus["topics/assert.txt"].text


def test_every_module_answers_for_what_it_defines_and_hands_on(records: list[dict[str, str]]):
    topics = {record["topic"] for record in records}
    expected = (
        "textwrap.dedent str.split asyncio.sleep collections.deque datetime.date.isoformat random.choice os.path.join "
        "os.path.exists os.makedirs os.getcwd itertools.chain re.compile unittest.TestCase.assertEqual len math.sqrt"
    )
    assert set(expected.split()) <= topics
    assert (
        not {"asyncio.tasks.sleep", "posixpath.join", "genericpath.exists", "unittest.case.TestCase"} & topics
    )


def test_answers_are_what_the_docstrings_say(records: list[dict[str, str]]):
    known = answers(records)
    assert (
        known["What does textwrap.dedent do?"]
        == "Remove any common leading whitespace from every line in `text`."
    )
    signature = (
        known.get("What is the signature of textwrap.dedent?")
        or known["What are the arguments of textwrap.dedent?"]
    )
    assert signature == "textwrap.dedent" + str(inspect.signature(textwrap.dedent))
    split = inspect.getdoc(str.split) or ""
    assert " ".join(split.split()).startswith(known["What does str.split do?"])


def test_no_question_comes_twice_and_every_answer_is_usable(records: list[dict[str, str]]):
    assert len(records) > 8000
    assert len({record["instruction"] for record in records}) == len(records)
    for record in records:
        assert set(record) == {"instruction", "response", "topic", "kind"}
        assert 0 < len(record["response"]) <= MAX_ANSWER_CHARACTERS
        assert "\n" not in record["response"]
        assert " at 0x" not in record["response"]
        if record["kind"] == "code":
            code = record["instruction"].partition("\n")[2]
            assert code.count("\n") < 12
            compile(code, record["topic"], "exec", dont_inherit=True)


def digest(documents: Iterable[Document], records: Iterable[dict[str, str]]) -> str:
    values = [[document.id for document in documents], list(records)]
    return hashlib.sha256(json.dumps(values).encode()).hexdigest()


def test_another_process_with_other_hashes_finds_the_same(
    corpus: dict[str, Document], records: list[dict[str, str]]
):
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r});"
        "from test_default_corpus import *; print(digest(documents(), instruction_records()))"
    )
    root = Path(default_corpus.__file__).parent.parent.parent
    environment = {**os.environ, "PYTHONHASHSEED": "7", "PYTHONPATH": str(root)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == digest(corpus.values(), records)


def test_a_machine_without_library_files_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    for missing in (tmp_path, tmp_path / "python311.zip"):
        monkeypatch.setattr(sysconfig, "get_path", lambda name, missing=missing: str(missing))
        for function in (
            module_files,
            lambda: list(islice(documents(), 1)),
            lambda: list(instruction_records()),
        ):
            with pytest.raises(
                DataError, match=r"holds no source files .*data\.corpus=directory and data\.raw_dir"
            ):
                function()


def test_a_library_with_files_that_are_no_python_is_read_without_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    (tmp_path / "textwrap.py").write_text('"""Text wrapping."""\n')
    (tmp_path / "broken.py").write_text("def (:\n")
    (tmp_path / "latin.py").write_bytes(b"# -*- coding: latin-1 -*-\nname = 'caf\xe9'\n")
    (tmp_path / "bytes.py").write_bytes(b"name = '\xff'\n")
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    texts = {document.source.partition("/")[2]: document.text for document in documents()}
    assert "café" in texts["latin.py"]
    assert "broken.py" not in texts
    assert "bytes.py" not in texts


def test_nothing_of_the_library_is_executed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / "textwrap.py").write_text("raise SystemExit('executed')\n")
    monkeypatch.setattr(sysconfig, "get_path", lambda name: str(tmp_path))
    assert next(documents()).text.startswith("raise SystemExit")
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize(
    ("doc", "answer"),
    [
        ("Return the thing, quickly.\n\nMore.", "Return the thing, quickly."),
        ("Return\nthe   thing\nnow", "Return the thing now"),
        ("len(obj, /) -> int\n\nReturn the number of items.", "Return the number of items."),
        ("S.find(sub) -> int -- Return the lowest index.", "Return the lowest index."),
        ("deque([iterable[, maxlen]]) --> deque object\n\nA list-like sequence.", "A list-like sequence."),
        ("One whole sentence stands here. It has these parts:", "One whole sentence stands here."),
        ("A " + "long " * 40 + "one. " + "Second " * 20 + "one.", "A " + "long " * 40 + "one."),
        ("Short.", None),
        ("See the documentation of the other function.", None),
        ("Same as the function beside it in the file.", None),
        ("- a list of things\n- and more of them", None),
        (">>> example(of) # doctest and more", None),
        ("x" * 400 + " y z", None),
        ("", None),
        ("D.get(k[,d]) -> D[k] if k in D, else d, as it were", None),
    ],
)
def test_the_first_paragraph_is_a_sentence_or_nothing(doc: str, answer: str | None):
    assert first_paragraph(doc) == answer


def test_lines_that_repeat_the_call_are_taken_from_docstrings():
    assert without_signature("range(stop) -> range object\nrange(a, b) -> range object\n\nText.") == "Text."
    assert without_signature("Text (with brackets) stays.") == "Text (with brackets) stays."


SOURCE = '''
"""A module."""
__all__ = ["f", "C", "pick"]
__all__ += ["g"]
__all__.extend(["h"])
if True:
    def f(a, /, b=1, *args, c: int = 2, **kw) -> str:
        """Do something with b."""
        return str(a)  # why
else:
    def f(): pass
def g(): """One line only."""
@decorated
async def h(x):
    """Wait
    for x."""

    await x
def hidden(): pass
class C(Base):
    """A class."""
    def __init__(self, size=3): pass
    def method(self, /, x=1):
        """Do it."""
        return x
    @classmethod
    def make(cls, x): "Make one."; return cls(x)
    @staticmethod
    def static(x): return x
    @property
    def area(self):
        """The area."""
        return 1
    @area.setter
    def area(self, value): pass
    def _private(self): pass
_instance = C()
pick = _instance.method
'''


def test_definitions_signatures_and_code_are_read_from_source():
    module = parse_module(SOURCE, name="m", is_package=False, is_public=True)
    entries = {entry.name: entry for entry in public_entries([module])["m"]}
    assert {name: entry.signature for name, entry in entries.items()} == {
        "m": "",
        "m.f": "m.f(a, /, b=1, *args, c: int=2, **kw)",
        "m.g": "m.g()",
        "m.h": "m.h(x)",
        "m.C": "m.C(size=3)",
        "m.C.method": "m.C.method(x=1)",
        "m.C.make": "m.C.make(x)",
        "m.C.static": "m.C.static(x)",
        "m.C.area": "",
        "m.pick": "m.pick(x=1)",
    }
    assert (
        entries["m.f"].code == "def f(a, /, b=1, *args, c: int = 2, **kw) -> str:\n    return str(a)  # why"
    )
    assert entries["m.h"].code == "@decorated\nasync def h(x):\n    await x"
    assert entries["m.C.method"].code == "def method(self, /, x=1):\n    return x"
    assert (entries["m.g"].code, entries["m.C.make"].code) == ("", "")
    assert entries["m.C.area"].kind == "attribute"


def test_what_a_package_hands_on_has_the_name_that_people_use():
    def module(name: str, source: str, *, is_package: bool = False):  # type: ignore[no-untyped-def]
        is_public = not any(part.startswith("_") for part in name.split("."))
        return parse_module(source, name=name, is_package=is_package, is_public=is_public)

    entries = public_entries(
        [
            module("_private", "def p(): 'P.'\ndef _q(): pass\n"),
            module(
                "pkg",
                "from .part import *\nfrom ._inner import z as zed\nfrom other import tool\n",
                is_package=True,
            ),
            module("pkg._inner", "def z(): 'Z.'\n"),
            module("pkg.part", "__all__ = ['a']\ndef a(): 'A.'\ndef b(): 'B.'\n"),
            module("other", "from _private import *\ndef tool(): 'T.'\n"),
        ]
    )
    names = {home: [entry.name for entry in found[1:]] for home, found in entries.items()}
    assert names == {"pkg": ["pkg.a", "pkg.zed"], "pkg.part": [], "other": ["other.p", "other.tool"]}
    assert entries["pkg"][2].signature == "pkg.zed()"
