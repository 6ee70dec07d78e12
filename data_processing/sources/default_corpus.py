"""The corpus that every machine with Python has: its standard library, read in place. Knows no tokenizer and no
model."""

import ast
import hashlib
import io
import itertools
import os
import platform
import re
import sysconfig
import tokenize
from collections.abc import Iterator, Sequence
from pathlib import Path

from core.errors import DataError
from data_processing.document import Document
from data_processing.sources.c_reference import c_entries
from data_processing.sources.python_reference import (
    Entry,
    SourceModule,
    parse_module,
    public_entries,
    without_signature,
)

EXCLUDED_DIRECTORIES = frozenset(
    {
        *("test", "tests", "idle_test"),  # data and assertions
        *(
            "idlelib",
            "turtledemo",
            "ensurepip",
            "pydoc_data",
        ),  # programs, demonstrations, wheels, one big table
        *("lib2to3", "distutils"),  # removed from Python 3.12 and 3.13: their advice is out of date
        *("site-packages", "dist-packages", "lib-dynload", "__pycache__", "__phello__"),  # not the library
    }
)
MAX_TABLE_SHARE = 0.7
MIN_TABLE_LINES = 200
"""A module of at least this many lines, more than `MAX_TABLE_SHARE` of them literal values, is a table and neither
prose nor code. On Python 3.11 that drops 73 of 523 modules, 1.4 of 9.6 MB, all but two of them character maps in
`encodings`; pickletools (57 %, opcodes explained in prose) stays."""

MAX_ANSWER_CHARACTERS = 300
MIN_ANSWER_CHARACTERS = 20
MAX_CODE_LINES = 12

WELL_KNOWN_MODULES = (
    *("builtins", "textwrap", "string", "math", "random", "json", "re", "time", "itertools", "functools"),
    *("collections", "os.path", "shutil", "glob", "csv", "statistics", "heapq", "bisect", "copy", "operator"),
    *(
        "pathlib",
        "datetime",
        "subprocess",
        "tempfile",
        "hashlib",
        "base64",
        "dataclasses",
        "contextlib",
        "os",
    ),
    *(
        "logging",
        "argparse",
        "io",
        "sys",
        "threading",
        "urllib.parse",
        "pprint",
        "fractions",
        "struct",
        "zipfile",
    ),
)
"""Questions about these come first, so that a part of the records is the part a reader knows. Arbitrary: what a
first book on Python mentions."""

_PUBLIC_NAMES = {"posixpath": "os.path"}
_UNDOCUMENTED = frozenset({"antigravity", "genericpath", "ntpath", "nturl2path", "opcode", "this"})
"""Modules whose names look public and that Python's documentation does not have."""

# A docstring that sends the reader elsewhere answers nothing.
_REFERENCE = re.compile(
    r"(see|refer to|same as|like|as for|alias|deprecated|obsolete|todo|fixme|inherited|override|overridden|internal|"
    r"undocumented|not implemented|implement(s|ation of)? [\w.]+\(?\)?\.?$|for (more|further|documentation))\b",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"'`(])")


def module_files() -> list[Path]:
    """The source files of the standard library that are read, in order of their dotted names.

    Raises:
        DataError: this interpreter has no standard library as files.
    """
    root = _library_directory()
    files: list[Path] = []
    for directory, names, file_names in os.walk(root):
        # In place, so that site-packages is not walked; `config-*` holds build settings.
        names[:] = [
            name for name in names if name not in EXCLUDED_DIRECTORIES and not name.startswith("config-")
        ]
        files += [Path(directory, name) for name in file_names if name.endswith(".py")]
    return sorted(files, key=lambda path: path.relative_to(root).parts)


def documents() -> Iterator[Document]:
    """The standard library as documents, in the same order every time on one interpreter:

    1. `python3.11/textwrap.py`: the source of each module (marked as code);
    2. `python3.11/reference/textwrap.txt`: for each public module its docstring, then each public class, method and
       function with signature and docstring, the modules in C included;
    3. `python3.11/topics/assert.txt`: the language reference that `help()` shows.

    Nothing is executed: source is parsed, and only the modules in `c_reference.C_MODULES` are imported.

    Raises:
        DataError: this interpreter has no standard library as files.
    """
    version = f"python{'.'.join(platform.python_version_tuple()[:2])}"
    modules = []
    for path, text, module in _modules():
        modules.append(module)
        metadata = {"format": ".py", "encoding": "utf-8", "code": True, "module": module.name}
        yield Document.of(text, source=f"{version}/{path}", metadata=metadata)
    for name, entries in _reference(modules).items():
        text = "\n\n".join(filter(None, map(_reference_text, entries))) + "\n"
        metadata = {"format": ".txt", "encoding": "utf-8", "module": name}
        yield Document.of(text, source=f"{version}/reference/{name}.txt", metadata=metadata)
    for name, text in _language_topics().items():
        metadata = {"format": ".txt", "encoding": "utf-8", "topic": name}
        yield Document.of(text, source=f"{version}/topics/{name}.txt", metadata=metadata)


def instruction_records() -> Iterator[dict[str, str]]:
    """Questions about the standard library, answered by its docstrings and definitions.

    Yields:
        `{"instruction", "response", "topic", "kind"}`. `topic` is the qualified name that the question is about, so
        that all questions about one thing can be kept in one split. `kind` is `purpose` (the first paragraph of the
        docstring, whole sentences up to `MAX_ANSWER_CHARACTERS`), `signature` (how it is called; asked for in one
        of two ways) or `code` (what a function of at most `MAX_CODE_LINES` lines does). No instruction comes twice.
        The order is the same every time on one interpreter, `WELL_KNOWN_MODULES` first.

    Raises:
        DataError: this interpreter has no standard library as files.
    """
    seen: set[str] = set()
    reference = _reference([module for _, _, module in _modules()])
    well_known = [reference.pop(name) for name in WELL_KNOWN_MODULES if name in reference]
    for entry in itertools.chain.from_iterable([*well_known, *reference.values()]):
        for kind, question, answer in _questions(entry):
            if question not in seen:
                seen.add(question)
                yield {"instruction": question, "response": answer, "topic": entry.name, "kind": kind}


def first_paragraph(doc: str) -> str | None:
    """What a docstring says first, on one line, as whole sentences of at most `MAX_ANSWER_CHARACTERS` together.

    None when that is no sentence that stands alone: too short, a list, an example, or a pointer to another place.
    """
    paragraph = re.split(r"\n[ \t]*\n", without_signature(doc), maxsplit=1)[0]
    if re.search(r"^\s*([-*+|:@#<]|>>>|=+$|\d+\.)", paragraph, re.MULTILINE):
        return None
    answer = ""
    for sentence in _SENTENCE_END.split(" ".join(paragraph.split())):
        longer = f"{answer} {sentence}".strip()
        # A sentence that ends in a colon announces what the answer does not hold.
        if len(longer) > MAX_ANSWER_CHARACTERS or sentence.endswith(":"):
            break
        answer = longer
    if len(answer) < MIN_ANSWER_CHARACTERS or len(answer.split()) < 3:
        return None
    if _REFERENCE.match(answer) or "->" in answer:  # the latter is a signature that runs into the text
        return None
    return answer


def _library_directory() -> Path:
    root = Path(sysconfig.get_path("stdlib"))
    # Any module would do; this one every version has, and no zip file is a directory.
    if not (root / "textwrap.py").is_file():
        raise DataError(_no_library(root))
    return root


def _no_library(root: Path) -> str:
    return (
        f"data.corpus=python_standard_library: {root} holds no source files (a zipped or stripped Python), expected "
        "the standard library of the running interpreter; install a full Python, or set data.corpus=directory and "
        "data.raw_dir"
    )


def _modules() -> Iterator[tuple[str, str, SourceModule]]:
    """(path relative to the library, source, what it defines) of each module that is no table."""
    root = _library_directory()
    for path in module_files():
        relative = path.relative_to(root)
        is_package = path.name == "__init__.py"
        name = ".".join(relative.parent.parts if is_package else relative.with_suffix("").parts)
        name = _PUBLIC_NAMES.get(name, name)
        is_public = name not in _UNDOCUMENTED and not any(part.startswith("_") for part in name.split("."))
        data = path.read_bytes()
        try:
            encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
            source = data.decode(encoding).replace("\r\n", "\n")
            module = parse_module(source, name=name, is_package=is_package, is_public=is_public)
        except (SyntaxError, UnicodeDecodeError):
            continue  # such as a template that only looks like Python
        if module.num_lines < MIN_TABLE_LINES or module.table_lines <= MAX_TABLE_SHARE * module.num_lines:
            yield relative.as_posix(), source, module


def _reference(modules: Sequence[SourceModule]) -> dict[str, list[Entry]]:
    """Public module -> its entries, those in C among them; source comes before C where both define a name."""
    reference = public_entries(modules)
    known = {entry.name for entries in reference.values() for entry in entries}
    homes: dict[str, list[Entry]] = {}
    for home, entry in c_entries():
        if entry.name not in known:
            homes.setdefault(home, []).append(entry)
    for home, entries in homes.items():
        reference[home] = sorted(
            [*reference.get(home, []), *entries], key=lambda entry: (entry.kind != "module", entry.name)
        )
    return dict(sorted(reference.items()))


def _reference_text(entry: Entry) -> str:
    """One entry as plain text; empty when it says nothing but a name."""
    heading = {"module": "Module ", "class": "class "}.get(entry.kind, "") + (entry.signature or entry.name)
    doc = without_signature(entry.doc) if entry.kind != "module" else entry.doc
    if not doc.strip() and not entry.signature:
        return heading if entry.kind == "module" else ""
    return f"{heading}\n{doc}".strip()


def _language_topics() -> dict[str, str]:
    """Name -> text of the language reference that comes with `help()`; nothing where the interpreter lacks it."""
    path = _library_directory() / "pydoc_data" / "topics.py"
    if not path.is_file():
        return {}
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Dict):
            topics: dict[str, str] = ast.literal_eval(node.value)
            return dict(sorted(topics.items()))
    return {}


def _questions(entry: Entry) -> Iterator[tuple[str, str, str]]:
    """(kind, question, answer) of everything that can be asked about an entry."""
    answer = first_paragraph(entry.doc)
    if answer is not None:
        yield "purpose", _PURPOSE_QUESTIONS[entry.kind].format(name=entry.name), answer
    if entry.kind == "module" or not (answer or entry.doc):
        return
    if entry.signature and len(entry.signature) <= MAX_ANSWER_CHARACTERS:
        # Both ways of asking are learned, and the answers are not doubled; a digest, because hash() is salted.
        digest = hashlib.blake2b(entry.name.encode(), digest_size=1).digest()[0]
        yield "signature", _SIGNATURE_QUESTIONS[digest % 2].format(name=entry.name), entry.signature
    if answer is not None and entry.code and entry.code.count("\n") < MAX_CODE_LINES:
        yield "code", f"What does this code do?\n{entry.code}", answer


_PURPOSE_QUESTIONS = {
    "module": "What is the module {name} for?",
    "class": "What is {name}?",
    "function": "What does {name} do?",
    "method": "What does {name} do?",
    "attribute": "What is {name}?",
}
_SIGNATURE_QUESTIONS = ("What are the arguments of {name}?", "What is the signature of {name}?")
