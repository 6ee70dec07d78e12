"""Which paths a user's globs and .gitignore files name. Reads .gitignore files and nothing else.

Globs are translated by pathspec; of several rules that fit a path, the last one decides.
"""

import os
import re
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from core.errors import ConfigError, DataError

if TYPE_CHECKING:
    from pathspec import GitIgnoreSpec
    from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

IGNORE_NAME = ".gitignore"


class Globs:
    """Globs as in a .gitignore file: `*.txt` fits at any depth, `/a/*.txt` and `a/**/*.txt` from the root, `a/` a
    directory and what is below it; `!` in front takes back what an earlier glob named.

    >>> Globs(["books/**/*.txt"], setting="data.include").match("books/old/a.txt")
    True

    Args:
        globs: What the user wrote.
        setting: Where, for errors.

    Raises:
        ConfigError: one of them is not a glob.
    """

    def __init__(self, globs: Sequence[str], *, setting: str) -> None:
        self._spec = _spec(globs, setting) if globs else None

    def __bool__(self) -> bool:
        return self._spec is not None

    def match(self, path: str) -> bool:
        """Whether a path relative to the root is named; that of a directory ends with a slash."""
        return self._spec is not None and self._spec.match_file(path)


@dataclass(frozen=True, slots=True)
class IgnoreFile:
    """The rules of one .gitignore file.

    Attributes:
        below: The way down to it from the directory that is searched, with a slash at the end.
        above: The way down from it to the directory that is searched. At most one of the two is not empty.
        rules: (pattern as it is written, translated), in order.
    """

    below: str
    above: str
    rules: "tuple[tuple[str, GitIgnoreSpecPattern], ...]"

    def verdict(self, path: str) -> bool | None:
        """Whether the last rule that fits ignores `path` (True) or takes it back (False); None when none fits."""
        own = self.above + path.removeprefix(self.below)
        for written, rule in reversed(self.rules):
            if rule.include is not None and _fits(written, rule, own):
                return rule.include
        return None


def ignored(path: str, files: Sequence[IgnoreFile]) -> bool:
    """Whether git ignores `path` (that of a directory ends with a slash), none of whose parents is ignored.

    Args:
        files: The .gitignore files of its parents, the outermost first; the innermost that says something decides.
    """
    for file in reversed(files):
        if (verdict := file.verdict(path)) is not None:
            return verdict
    return False


def read_ignore_file(directory: Path, *, below: str = "", above: str = "") -> IgnoreFile | None:
    """The .gitignore file of a directory, or None when it has none. As git does it, a link or pipe is none.

    Args:
        below, above: As in `IgnoreFile`.

    Raises:
        DataError: it cannot be read.
    """
    path = directory / IGNORE_NAME
    try:
        if not stat.S_ISREG(path.lstat().st_mode):
            return None
        # Names need not be UTF-8; paths are compared in the form that the file system gives them in.
        lines = os.fsdecode(path.read_bytes().removeprefix(b"\xef\xbb\xbf")).split("\n")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}), so nobody knows what it ignores; change its permissions, or "
            "set data.respect_gitignore to false"
        ) from None
    rules = tuple((line, rule) for line in map(_clean_line, lines) if (rule := _rule(line)) is not None)
    return IgnoreFile(below, above, rules)


def ignore_files_above(root: Path) -> list[IgnoreFile]:
    """The .gitignore files from the top of the repository that `root` lies in down to above `root`.

    Raises:
        DataError: one of them cannot be read.
    """
    root = root.resolve()
    if (root / ".git").exists():
        return []
    top = next((parent for parent in root.parents if (parent / ".git").exists()), None)
    if top is None:
        return []
    between = [parent for parent in reversed(root.parents) if parent.is_relative_to(top)]
    files = [read_ignore_file(parent, above=f"{root.relative_to(parent).as_posix()}/") for parent in between]
    return [file for file in files if file is not None]


def _spec(globs: Sequence[str], setting: str) -> "GitIgnoreSpec":
    from pathspec import GitIgnoreSpec
    from pathspec.patterns.gitignore import GitIgnorePatternError

    for glob in globs:
        try:
            fits_nothing = all(
                pattern.include is None for pattern in GitIgnoreSpec.from_lines([glob]).patterns
            )
        except (GitIgnorePatternError, re.error):  # re.error: a range such as [z-a]
            fits_nothing = True
        if fits_nothing:
            raise ConfigError(
                f"{setting}: {glob!r} names nothing; expected a glob such as books/**/*.txt, as in a .gitignore file"
            )
    return GitIgnoreSpec.from_lines(globs)


def _clean_line(line: str) -> str:
    """A line without its end and the white space there, unless a backslash keeps it."""
    line = line.removesuffix("\r")
    stripped = line.rstrip(" ")
    return stripped + " " if stripped.endswith("\\") and stripped != line else stripped


def _rule(line: str) -> "GitIgnoreSpecPattern | None":
    """A line's pattern; None for blank lines, comments and, as in git, what cannot be one."""
    from pathspec.patterns.gitignore import GitIgnorePatternError
    from pathspec.patterns.gitignore.spec import GitIgnoreSpecPattern

    try:
        rule = GitIgnoreSpecPattern(line)
    except (GitIgnorePatternError, re.error):
        return None
    return rule if rule.include is not None else None


def _fits(written: str, rule: "GitIgnoreSpecPattern", path: str) -> bool:
    """Whether a rule names this very path.

    pathspec lets a rule for a directory fit everything below it, and weighs such matches less. Git does not look
    below an ignored directory at all, and there a rule fits a path or does not: with pathspec's own verdict, 9 % of
    600 random sets of rules differed from `git ls-files`, with this one none.
    """
    match = rule.match_file(path)
    if match is None:
        return False
    glob = written.removeprefix("!")
    if glob in ("*", "**"):
        return True
    if glob in ("*/", "**/"):
        return path.endswith("/")
    end: int = match.match.end()
    return end < len(path) if glob.endswith("/**") else end == len(path)
