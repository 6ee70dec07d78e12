"""The text of a Jupyter notebook's cells (nbformat 4, and 3). Knows no file."""

import re
from typing import Any


def notebook_cells(notebook: Any) -> list[str] | None:
    """The Markdown and code cells in order, code in fences; None when it is no notebook.

    Empty cells and cells of other kinds are left out, and so is what code printed or drew.
    """
    cells = _cells(notebook)
    if cells is None:
        return None
    language = _language(notebook)
    texts: list[str] = []
    for cell in cells:
        source = _source(cell)
        kind = cell.get("cell_type")
        if not source.strip():
            continue
        if kind == "markdown":
            texts.append(source.strip("\n"))
        elif kind == "heading":  # nbformat 3
            level = cell.get("level")
            marks = "#" * level if isinstance(level, int) and 1 <= level <= 6 else "#"
            texts.append(f"{marks} {source.strip()}")
        elif kind == "code":
            texts.append(_fenced(source.strip("\n"), _language_of_cell(cell) or language))
    return texts


def _cells(notebook: Any) -> list[dict[str, Any]] | None:
    if not isinstance(notebook, dict):
        return None
    cells = notebook.get("cells")
    if cells is None and isinstance(notebook.get("worksheets"), list):  # nbformat 3
        cells = [
            cell
            for sheet in notebook["worksheets"]
            if isinstance(sheet, dict) and isinstance(sheet.get("cells"), list)
            for cell in sheet["cells"]
        ]
    if not isinstance(cells, list):
        return None
    return [cell for cell in cells if isinstance(cell, dict)]


def _source(cell: dict[str, Any]) -> str:
    source = cell.get("source", cell.get("input", ""))
    if isinstance(source, list):
        return "".join(line for line in source if isinstance(line, str))
    return source if isinstance(source, str) else ""


def _language(notebook: dict[str, Any]) -> str:
    """The language of the kernel, as a fence names it; empty when the notebook does not say."""
    metadata = notebook.get("metadata")
    if not isinstance(metadata, dict):
        return ""
    for place, key in (("language_info", "name"), ("kernelspec", "language")):
        found = metadata.get(place)
        if isinstance(found, dict) and isinstance(found.get(key), str):
            return _as_info(found[key])
    return ""


def _language_of_cell(cell: dict[str, Any]) -> str:
    language = cell.get("language")
    return _as_info(language) if isinstance(language, str) else ""


def _as_info(language: str) -> str:
    """A language's name that can stand behind a fence."""
    return re.sub(r"[^\w+#.-]", "", language)[:40].lower()


def _fenced(code: str, language: str) -> str:
    """`code` between fences that are longer than any in it."""
    longest = max((len(run) for run in re.findall("`{3,}", code)), default=2)
    fence = "`" * (longest + 1)
    return f"{fence}{language}\n{code}\n{fence}"
