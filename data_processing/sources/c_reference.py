"""Names, signatures and docstrings out of modules written in C, which have no source to read. Imports only the
modules of its list."""

import importlib
import inspect
import re
import types
from collections.abc import Iterator, Sequence
from typing import Any

from data_processing.sources.python_reference import Entry, Kind

C_MODULES: Sequence[str] = (
    *("builtins", "array", "atexit", "binascii", "bisect", "cmath", "collections", "contextvars", "datetime"),
    *(
        "errno",
        "faulthandler",
        "fcntl",
        "functools",
        "gc",
        "grp",
        "io",
        "itertools",
        "marshal",
        "math",
        "operator",
    ),
    *(
        "os",
        "pwd",
        "re",
        "resource",
        "select",
        "signal",
        "struct",
        "sys",
        "time",
        "unicodedata",
        "weakref",
        "zlib",
    ),
)
"""Modules wholly or partly in C, whose docstrings no source file holds. Importing them has no effect but on time."""

_HOMES = {"posix": "os", "nt": "os"}
"""Where C modules with another name than `_<public name>` are documented."""


def c_entries() -> Iterator[tuple[str, Entry]]:
    """(module, entry) of what `C_MODULES` define, by name; a module that this interpreter lacks is passed over."""
    for name in C_MODULES:
        try:
            module = importlib.import_module(name)
        except ImportError:
            continue
        prefix = "" if name == "builtins" else f"{name}."
        yield name, Entry(name, "module", doc=inspect.cleandoc(module.__doc__ or ""))
        for attribute in sorted(vars(module)):
            # Debuggers and test runners put their own hooks into sys; the interpreter's are kept as `__name__`.
            value = vars(module).get(f"__{attribute}__", vars(module)[attribute])
            if attribute.startswith("_") or not _is_at_home(value, name):
                continue
            if inspect.isclass(value):
                for entry in _c_class_entries(value, prefix + attribute):
                    yield name, entry
            elif inspect.isbuiltin(value):
                yield name, _c_entry(value, prefix + attribute, "function")


def _is_at_home(value: Any, module: str) -> bool:
    if isinstance(value, types.ModuleType):
        return False
    origin = getattr(value, "__module__", None) or ""
    return _HOMES.get(origin, origin.removeprefix("_")) == module


def _c_class_entries(cls: type, name: str) -> Iterator[Entry]:
    yield _c_entry(cls, name, "class")
    for attribute in sorted(vars(cls)):
        value = vars(cls)[attribute]
        if attribute.startswith("_") or not getattr(value, "__doc__", None):
            continue
        if inspect.ismethoddescriptor(value) or isinstance(
            value, classmethod | staticmethod | types.BuiltinMethodType
        ):
            yield _c_entry(getattr(cls, attribute), f"{name}.{attribute}", "method")
        elif inspect.isdatadescriptor(value):
            yield Entry(f"{name}.{attribute}", "attribute", doc=inspect.cleandoc(value.__doc__ or ""))


def _c_entry(value: Any, name: str, kind: Kind) -> Entry:
    doc = inspect.cleandoc(value.__doc__) if isinstance(value.__doc__, str) else ""
    return Entry(name, kind, _c_signature(value, name, doc), doc)


def _c_signature(value: Any, name: str, doc: str) -> str:
    try:
        signature = inspect.signature(value)
    except (
        ValueError,
        TypeError,
        AttributeError,
    ):  # C code that does not say, or says it wrongly (3.13, select)
        last = name.rpartition(".")[2]
        match = re.match(rf"(?:\w+\.)?{re.escape(last)}(\([^\n]*?\))(?=\s|$|:|\.)", doc)
        return f"{name}{match[1]}" if match else ""
    parameters = list(signature.parameters.values())
    if parameters and parameters[0].name == "self":
        parameters = parameters[1:]
    text = str(signature.replace(parameters=parameters, return_annotation=inspect.Signature.empty))
    # An address would differ from run to run.
    return "" if "<" in text else name + text.replace("(/, ", "(").replace("(/)", "()")
