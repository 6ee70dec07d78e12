"""The body of a LaTeX document without what only its author and the program see. Knows no file."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

_VERBATIM = (
    "verbatim",
    "verbatim*",
    "Verbatim",
    "lstlisting",
    "minted",
    "alltt",
    "filecontents",
    "filecontents*",
)
# What is left out as a whole: comments, and the literature, which is records and not prose.
_LEFT_OUT = ("comment", "thebibliography")
_ENVIRONMENTS = "|".join(re.escape(name) for name in (*_VERBATIM, *_LEFT_OUT))
# Repetitions are bounded: a search without an end from every beginning would take quadratic time.
_TOKENS = re.compile(
    rf"\\begin[ \t]{{0,20}}\{{(?P<environment>{_ENVIRONMENTS})\}}"
    # A percent sign in an address or between the delimiters of \verb begins no comment.
    r"|\\(?:url|path|nolinkurl|href)[ \t]{0,20}\{[^{}\n]{0,2000}\}"
    r"|\\verb\*?(?P<delimiter>[^\w\s*])(?:(?!(?P=delimiter))[^\n]){0,500}(?P=delimiter)"
    r"|\\(?P<literature>bibliography|bibliographystyle|printbibliography|addbibresource)(?![A-Za-z])"
    r"(?:\[[^\]\n]{0,200}\])?(?:\{[^{}]{0,1000}\})?"
    r"|\\."
    r"|(?P<comment>%[^\n]*)"
)
_BEGIN = re.compile(r"\\begin\s{0,20}\{document\}")
_END = re.compile(r"\\end\s{0,20}\{document\}")
_TITLE = re.compile(r"\\title\s{0,20}(?:\[[^\]]{0,200}\])?\s{0,20}\{")
MAX_TITLE_CHARACTERS = 1000
"""A longer title is taken for a brace that was forgotten. Arbitrary."""


@dataclass(frozen=True, slots=True)
class TexText:
    """The body of a LaTeX source, and its title; empty where it gives none."""

    text: str
    title: str


def tex_text(source: str) -> TexText:
    r"""The body between `\begin{document}` and `\end{document}`, or all of a source without one.

    Comments (also the `comment` environment) and the list of literature are left out; macros, formulas and verbatim
    text stay as they are. Files that it reads in are not looked for.
    """
    without = "".join(_without_comments(source.replace("\r\n", "\n")))
    begin = _BEGIN.search(without)
    body = without[begin.end() :] if begin else without
    end = _END.search(body)
    return TexText(body[: end.start()] if end else body, _title(without))


def _without_comments(source: str) -> Iterator[str]:
    unclosed: set[str] = set()  # looked for in vain once is enough
    place = 0
    while match := _TOKENS.search(source, place):
        name = match["environment"]
        if name is not None:
            end = -1 if name in unclosed else source.find(f"\\end{{{name}}}", match.end())
            if end < 0:
                unclosed.add(name)
                yield source[place : match.end()]
                place = match.end()
                continue
            yield source[place : match.start() if name in _LEFT_OUT else end]
            place = end + len(f"\\end{{{name}}}") if name in _LEFT_OUT else end
        elif match["comment"] is not None:
            yield source[place : match.start()]
            place = match.end()
            # A line that was nothing but a comment goes as a whole: an empty one would be a paragraph's end.
            line_start = source.rfind("\n", 0, match.start()) + 1
            if source[line_start : match.start()].strip() == "":
                place = min(place + 1, len(source))
        else:
            yield source[place : match.start() if match["literature"] else match.end()]
            place = match.end()
    yield source[place:]


def _title(source: str) -> str:
    """What stands between the braces of the title command, on one line."""
    match = _TITLE.search(source)
    if match is None:
        return ""
    depth = 1
    for brace in re.finditer(r"\\.|[{}]", source[match.end() : match.end() + MAX_TITLE_CHARACTERS]):
        depth += {"{": 1, "}": -1}.get(brace[0], 0)
        if depth == 0:
            title = source[match.end() : match.end() + brace.start()]
            return " ".join(title.replace("\\\\", " ").split())
    return ""
