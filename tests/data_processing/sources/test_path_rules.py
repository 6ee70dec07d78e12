"""Globs and .gitignore files, compared with git itself."""

import doctest
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from core.errors import ConfigError, DataError
from data_processing.sources import path_rules
from data_processing.sources.path_rules import Globs
from data_processing.sources.raw_files import RawFile, SkippedDirectory, find_files

TREE = [
    "a/b.txt",
    "a/c/b.txt",
    "a/c/d.md",
    "b.txt",
    "d.md",
    "c/b.txt",
    "c/d/a.txt",
    "x y.txt",
    "a/build/o.txt",
    "build/o.txt",
    "#x",
    "é.txt",
]
RULES = st.sampled_from(
    [
        *("*", "a/", "/a", "a/*", "**/b.txt", "*.txt", "b.txt", "c", "c/", "a/**", "**/c/**", "/*", "build"),
        *(
            "!b.txt",
            "!a/",
            "!*.txt",
            "!/a/c",
            "!c/",
            "!a/c/b.txt",
            "**",
            "*/",
            "**/",
            "[ab].txt",
            "?.md",
            "a/c",
        ),
        *(
            "!**",
            "x\\ y.txt",
            "x y.txt  ",
            "a/**/b.txt",
            "!a/**",
            "# comment",
            "\\#x",
            "",
            "/",
            "é.*",
            "[a-",
            "!",
        ),
    ]
)
RULE_SETS = st.lists(RULES, max_size=4)


def make_tree(root: Path) -> None:
    for name in TREE:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")


def found(root: Path, **options: object) -> set[str]:
    return {
        item.path.relative_to(root).as_posix()
        for item in find_files(root, **options)  # type: ignore[arg-type]
        if isinstance(item, RawFile)
    }


def git(root: Path, *arguments: str) -> str:
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    command = ["git", "-C", str(root), *arguments]
    return subprocess.run(command, capture_output=True, check=True, text=True, env=environment).stdout


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git to compare with")
@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(top=RULE_SETS, inner=RULE_SETS, above=RULE_SETS)
def test_files_are_ignored_exactly_when_git_ignores_them(
    tmp_path_factory: pytest.TempPathFactory, top: list[str], inner: list[str], above: list[str]
):
    repository = tmp_path_factory.mktemp("repository")
    git(repository, "init", "--quiet")
    root = repository / "data"
    make_tree(root)
    # Rules above that name the directory itself would leave nothing to compare: whoever names it wants it read.
    above = [rule for rule in above if rule.strip("!") not in ("*", "/*", "**", "*/", "**/")]
    for directory, rules in ((repository, above), (root, top), (root / "a", inner)):
        (directory / ".gitignore").write_text("\n".join(rules) + "\n")
    listed = git(repository, "ls-files", "--others", "--exclude-standard", "-z", "--", "data").split("\0")
    expected = {name.removeprefix("data/") for name in listed if name and not name.endswith(".gitignore")}
    assert found(root, respect_gitignore=True) == expected


def test_what_git_ignores_is_named_with_its_reason_and_read_when_not_asked_for(tmp_path: Path):
    make_tree(tmp_path)
    (tmp_path / ".gitignore").write_bytes(b"\xef\xbb\xbfbuild/\r\n*.md\r\n")
    items = {item.source: item for item in find_files(tmp_path, respect_gitignore=True)}
    assert items["build"] == SkippedDirectory("build", "ignored_by_git")
    assert items["d.md"].reason == "ignored_by_git"  # type: ignore[union-attr]
    assert items["d.md"].num_bytes == 1  # type: ignore[union-attr]
    assert found(tmp_path) == set(TREE)


@pytest.mark.skipif(os.name == "nt", reason="Windows has no pipes in the file system")
def test_a_gitignore_that_is_a_pipe_or_a_link_is_none_and_one_that_cannot_be_read_stops(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    make_tree(tmp_path)
    os.mkfifo(tmp_path / "a" / ".gitignore")
    (tmp_path / "everything").write_text("*\n")
    (tmp_path / "c" / ".gitignore").symlink_to(tmp_path / "everything")
    assert set(TREE) <= found(tmp_path, respect_gitignore=True)
    (tmp_path / ".gitignore").write_text("x\n")

    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(
        DataError, match=r"\.gitignore: cannot be read .*set data\.respect_gitignore to false"
    ):
        list(find_files(tmp_path, respect_gitignore=True))


@pytest.mark.parametrize(
    ("include", "exclude", "expected"),
    [
        ((), (), set(TREE)),
        (("*.md",), (), {"d.md", "a/c/d.md"}),
        (("/*.txt",), (), {"b.txt", "x y.txt", "é.txt"}),
        (("a/**/*.txt",), (), {"a/b.txt", "a/c/b.txt", "a/build/o.txt"}),
        (("a/",), ("c/",), {"a/b.txt", "a/build/o.txt"}),
        ((), ("build", "c/", "*.txt"), {"d.md", "#x"}),
        (("*", "!b.txt"), (), {name for name in TREE if not name.endswith("b.txt")}),
    ],
)
def test_globs_choose_files_and_prune_directories(
    tmp_path: Path, include: tuple[str, ...], exclude: tuple[str, ...], expected: set[str]
):
    make_tree(tmp_path)
    assert found(tmp_path, include=include, exclude=exclude) == expected


def test_what_globs_leave_out_is_counted_with_its_reason_and_bytes(tmp_path: Path):
    make_tree(tmp_path)
    items = list(find_files(tmp_path, include=["*.txt"], exclude=["a/", "é.txt"]))
    reasons = {
        item.source: (item.reason, item.num_bytes)
        for item in items
        if hasattr(item, "num_bytes") and hasattr(item, "reason")
    }
    assert reasons["d.md"] == ("not_included", 1)
    assert reasons["é.txt"] == ("excluded", 1)
    assert SkippedDirectory("a", "excluded") in items


@pytest.mark.parametrize("glob", ["", "  ", "# comment", "!", "/"])
def test_what_is_no_glob_is_refused_with_its_setting(glob: str):
    with pytest.raises(ConfigError, match=r"data\.exclude: .* names nothing; expected a glob such as"):
        Globs([glob], setting="data.exclude")


def test_no_globs_name_nothing():
    assert not Globs([], setting="data.include")
    assert not Globs([], setting="data.include").match("a.txt")


def test_the_examples_in_the_documentation_are_true():
    assert doctest.testmod(path_rules).failed == 0
