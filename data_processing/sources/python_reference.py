"""Names, signatures and docstrings out of Python source. Executes nothing and knows nothing of files."""

import ast
import dataclasses
import re
import textwrap
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["module", "function", "class", "method", "attribute"]
_Function = ast.FunctionDef | ast.AsyncFunctionDef
_Definition = _Function | ast.ClassDef


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that has a name.

    Attributes:
        name: Qualified public name, such as `textwrap.dedent`; built-ins stand without `builtins.`.
        kind: What it is.
        signature: As one would call it, such as `textwrap.dedent(text)`; empty when it is not known.
        doc: The docstring without common indentation; empty when there is none.
        code: Source of a function without its docstring, at the margin; empty for other things.
    """

    name: str
    kind: Kind
    signature: str = ""
    doc: str = ""
    code: str = ""


@dataclass(slots=True)
class SourceModule:
    """What one source file defines; the syntax tree is not kept (it takes fifty times the memory of the source).

    Attributes:
        name: Dotted name, such as `email.message`.
        is_package: Whether the file is an `__init__.py`.
        is_public: Whether people import it under this name.
        doc: Docstring of the module, without common indentation.
        exported: `__all__`, where that is written out as strings; None otherwise.
        definitions: Name -> entries of a function or class (with its methods) at the top level, named from there.
        imports: (module, name there, name here) of each `from module import name`; `*` for all of them.
        table_lines: Lines taken by tables: literal values assigned at the top level.
        num_lines: Lines of the file.
    """

    name: str
    is_package: bool
    is_public: bool
    doc: str = ""
    exported: frozenset[str] | None = None
    definitions: dict[str, list[Entry]] = field(default_factory=dict)
    imports: list[tuple[str, str, str]] = field(default_factory=list)
    table_lines: int = 0
    num_lines: int = 0

    def exports(self, name: str) -> bool:
        """Whether `name` is public here."""
        return name in self.exported if self.exported is not None else not name.startswith("_")


def parse_module(source: str, *, name: str, is_package: bool, is_public: bool) -> SourceModule:
    """What the source text of a module defines.

    Raises:
        SyntaxError: `source` is not Python as this interpreter understands it.
    """
    with warnings.catch_warnings():
        # Invalid escapes in somebody else's source are not our warning.
        warnings.simplefilter("ignore")
        tree = ast.parse(source)
    lines = source.split("\n")
    doc = ast.get_docstring(tree) or ""
    module = SourceModule(name, is_package, is_public, doc=doc, num_lines=len(lines))
    instances: dict[str, str] = {}
    for node in _top_level(tree.body):
        if isinstance(node, _Definition):
            if node.name not in module.definitions:  # the first of several, as in `if posix: ... else: ...`
                module.definitions[node.name] = list(_definition_entries(node, node.name, lines))
        elif isinstance(node, ast.ImportFrom):
            origin = _absolute(node, module)
            module.imports += [(origin, alias.name, alias.asname or alias.name) for alias in node.names]
        elif isinstance(node, ast.Assign | ast.AnnAssign | ast.AugAssign):
            _enter_assignment(node, module)
            if isinstance(node, ast.Assign):
                _enter_alias(node, module, instances)
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            _enter_extension(node.value, module)
    return module


def public_entries(modules: Sequence[SourceModule]) -> dict[str, list[Entry]]:
    """Public module -> its entries: the module, then its functions and classes by name, each class before its methods.

    What is defined in a submodule or in a private module and handed on by a public one appears once, under the name
    that people use: `asyncio.sleep`, not `asyncio.tasks.sleep`.
    """
    known = {module.name: module for module in modules}
    names: dict[
        tuple[str, str], tuple[str, str]
    ] = {}  # (module, name) of a definition -> public module, name there
    for module in modules:
        if not module.is_public:
            continue
        for origin, original, here in _handed_on(module, known):
            package, _, _ = origin.rpartition(".")
            if package == module.name or not known[origin].is_public:
                names.setdefault((origin, original), (module.name, here))
    result: dict[str, list[Entry]] = {}
    for module in modules:
        if module.is_public:
            result[module.name] = [Entry(module.name, "module", doc=module.doc)]
    for module in modules:
        for name, entries in module.definitions.items():
            home, public = names.get((module.name, name), (module.name, name))
            if home in result and (home != module.name or module.exports(name)):
                result[home] += [_renamed(entry, name, f"{home}.{public}") for entry in entries]
    for name, entries in result.items():
        # Sorting is stable, and a class is entered together with its methods.
        result[name] = entries[:1] + sorted(entries[1:], key=lambda entry: entry.name)
    return result


def without_signature(doc: str) -> str:
    """A docstring without the lines in front that repeat how the thing is called: `len(obj, /) -> int`."""
    stripped = _SIGNATURE_LINE.sub("", doc)
    while stripped != doc:
        doc, stripped = stripped, _SIGNATURE_LINE.sub("", stripped)
    return stripped.lstrip("\n")


# `range(stop) -> range object`, alone on its line or before a dash or colon or two spaces and a sentence.
_SIGNATURE_LINE = re.compile(
    r"\A\s*[A-Za-z_][\w.]*\([^()\n]*(?:\([^()\n]*\)[^()\n]*)*\)(?:\s*--?>\s*[^\n.:]*?)?(?:\s*\n|\s*\Z|:?\s+--?\s+|:\s+|\.\s+(?=[A-Z])|\s{2,})"
)


def _top_level(body: Sequence[ast.stmt]) -> Iterator[ast.stmt]:
    """Statements of a module, those in its `if`, `try` and `with` blocks included, in order."""
    for node in body:
        yield node
        if isinstance(node, ast.If):
            yield from _top_level(node.body + node.orelse)
        elif isinstance(node, ast.Try):
            yield from _top_level(node.body)
            for handler in node.handlers:
                yield from _top_level(handler.body)
            yield from _top_level(node.orelse + node.finalbody)
        elif isinstance(node, ast.With):
            yield from _top_level(node.body)


def _absolute(node: ast.ImportFrom, module: SourceModule) -> str:
    """The full name of the module that an import takes from."""
    if not node.level:
        return node.module or ""
    parts = module.name.split(".")
    parents = parts[: len(parts) - node.level + module.is_package]
    return ".".join([*parents, *([node.module] if node.module else [])])


def _enter_assignment(node: ast.Assign | ast.AnnAssign | ast.AugAssign, module: SourceModule) -> None:
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    value = node.value
    if isinstance(value, ast.Dict | ast.List | ast.Tuple | ast.Set | ast.Constant | ast.BinOp | ast.Call):
        assert node.end_lineno is not None, "ast.parse gives every statement an end"
        module.table_lines += node.end_lineno - node.lineno + 1
    if not any(isinstance(target, ast.Name) and target.id == "__all__" for target in targets):
        return
    names = _strings(value)
    if names is None or (isinstance(node, ast.AugAssign) and module.exported is None):
        module.exported = None
    elif isinstance(node, ast.AugAssign):
        module.exported = (module.exported or frozenset()) | names
    else:
        module.exported = names


def _enter_alias(node: ast.Assign, module: SourceModule, instances: dict[str, str]) -> None:
    """Functions that are methods of a hidden instance: `_inst = Random()` and then `choice = _inst.choice`."""
    target, value = node.targets[0], node.value
    if len(node.targets) != 1 or not isinstance(target, ast.Name):
        return
    if (
        isinstance(value, ast.Call)
        and isinstance(value.func, ast.Name)
        and value.func.id in module.definitions
    ):
        instances[target.id] = value.func.id
    elif (
        isinstance(value, ast.Attribute) and isinstance(value.value, ast.Name) and value.value.id in instances
    ):
        of_class = instances[value.value.id]
        for entry in module.definitions[of_class]:
            if entry.name == f"{of_class}.{value.attr}" and entry.kind == "method":
                function = dataclasses.replace(
                    _renamed(entry, entry.name, target.id), kind="function", code=""
                )
                module.definitions.setdefault(target.id, [function])


def _enter_extension(call: ast.Call, module: SourceModule) -> None:
    """`__all__.extend([...])` and `__all__.append("...")`."""
    function = call.func
    if not (isinstance(function, ast.Attribute) and isinstance(function.value, ast.Name)):
        return
    if function.value.id == "__all__" and module.exported is not None:
        names = _strings(call.args[0] if function.attr == "extend" else ast.List(list(call.args)))
        module.exported = None if names is None else module.exported | names


def _strings(value: ast.expr | None) -> frozenset[str] | None:
    """The strings of a literal list or tuple, None for anything else."""
    if not isinstance(value, ast.List | ast.Tuple):
        return None
    names = [item.value if isinstance(item, ast.Constant) else None for item in value.elts]
    strings = frozenset(name for name in names if isinstance(name, str))
    return strings if len(strings) == len(set(names)) else None


def _renamed(entry: Entry, old: str, new: str) -> Entry:
    signature = new + entry.signature[len(old) :] if entry.signature else ""
    return dataclasses.replace(entry, name=new + entry.name[len(old) :], signature=signature)


def _handed_on(module: SourceModule, known: dict[str, SourceModule]) -> Iterator[tuple[str, str, str]]:
    """(origin, name there, name here) of the definitions that a module imports and makes public."""
    for origin, original, here in module.imports:
        source = known.get(origin)
        if source is None or source is module:
            continue
        if original == "*":
            for name in source.definitions:
                if source.exports(name):
                    yield origin, name, name
            # One step further for modules that only pass on, such as a package of private parts.
            for deeper, name, passed in source.imports:
                if (
                    deeper in known
                    and name in known[deeper].definitions
                    and source.exported
                    and passed in source.exported
                ):
                    yield deeper, name, passed
        elif original in source.definitions:
            # Without __all__, a name from elsewhere is a tool and no part of what the module offers.
            own = origin.startswith(f"{module.name}.") and not here.startswith("_")
            if here in module.exported if module.exported is not None else own:
                yield origin, original, here


def _definition_entries(node: _Definition, name: str, lines: Sequence[str]) -> Iterator[Entry]:
    doc = ast.get_docstring(node) or ""
    if isinstance(node, _Function):
        yield Entry(name, "function", f"{name}({_arguments(node)})", doc, _code(node, lines))
        return
    members = [member for member in _top_level(node.body) if isinstance(member, _Definition)]
    start = next((m for m in members if m.name in ("__init__", "__new__") and isinstance(m, _Function)), None)
    signature = f"{name}({_arguments(start, drop_first=True)})" if isinstance(start, _Function) else ""
    yield Entry(name, "class", signature, doc)
    seen = set()
    for member in members:
        if member.name.startswith("_") or member.name in seen:
            continue
        seen.add(member.name)
        own, text = f"{name}.{member.name}", ast.get_docstring(member) or ""
        if isinstance(member, ast.ClassDef):
            yield Entry(own, "class", "", text)
            continue
        decorators = {ast.unparse(decorator) for decorator in member.decorator_list}
        if any("property" in decorator for decorator in decorators):
            yield Entry(own, "attribute", "", text)
            continue
        arguments = _arguments(member, drop_first="staticmethod" not in decorators)
        yield Entry(own, "method", f"{own}({arguments})", text, _code(member, lines))


def _arguments(node: _Function, *, drop_first: bool = False) -> str:
    """The arguments as they stand in the definition, on one line; `drop_first` leaves out self or cls."""
    arguments = node.args
    if drop_first:
        positional = [*arguments.posonlyargs, *arguments.args]
        first_is_positional_only = bool(arguments.posonlyargs)
        if positional:
            arguments = ast.arguments(
                posonlyargs=arguments.posonlyargs[1:],
                args=arguments.args if first_is_positional_only else arguments.args[1:],
                vararg=arguments.vararg,
                kwonlyargs=arguments.kwonlyargs,
                kw_defaults=arguments.kw_defaults,
                kwarg=arguments.kwarg,
                # A default of self itself is nobody's: there are never more defaults than other arguments.
                defaults=arguments.defaults[-(len(positional) - 1) :] if len(positional) > 1 else [],
            )
    return ast.unparse(arguments)


def _code(node: _Function, lines: Sequence[str]) -> str:
    """The definition without its docstring, at the margin; empty when nothing else is in it or lines are shared."""
    body = node.body
    first, last = min([node.lineno, *(d.lineno for d in node.decorator_list)]), node.end_lineno
    own = list(lines[first - 1 : last])
    if ast.get_docstring(node, clean=False) is not None:
        text = body[0]
        if len(body) == 1 or text.lineno <= node.lineno or text.end_lineno == body[1].lineno:
            return ""
        assert text.end_lineno is not None, "ast.parse gives every statement an end"
        end = text.end_lineno + 1 - first
        while not own[end].strip():
            end += 1
        del own[text.lineno - first : end]
    code = textwrap.dedent("\n".join(own))
    # Inside a method, a string whose lines begin at the margin keeps the rest from moving there.
    return "" if code[:1].isspace() else code
