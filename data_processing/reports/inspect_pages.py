"""What `scripts/inspect_data.py` prints: answers as plain text for a terminal. Looks nothing up."""

import shlex
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from data_processing.reports.inspect_corpus import MOST_CASES, Account
from data_processing.reports.report import REASONS
from data_processing.reports.shown import by_size, counted, number, one_line, share, size, visible, words
from data_processing.reports.trace_sentence import Found, Trace

WIDTH = 79
"""Of a line, in characters, where it can be broken: a terminal has 80 unless somebody made it wider."""
NAME_COLUMNS, VALUE_COLUMNS = 34, 14
MOST_LINES = 12
"""Reasons, sources and the like in a summary; arbitrary: all of it fits on a page."""
MOST_POWERS = 40
"""Lengths in a summary: more than there are powers of two up to a trillion characters."""


def account_page(account: Account) -> str:
    """What became of a file or document."""
    lines = [visible(account.source)]
    if account.file is not None:
        lines += _file_lines(account)
    if account.namesakes:
        lines.append(f"  of the same name: {', '.join(map(visible, account.namesakes))}")
    if account.kept:
        lines += ["", "In the corpus:", *(f"  {visible(source)}" for source in account.kept)]
        if len(account.kept) == MOST_CASES:
            lines.append("  … and perhaps more: the list ends here")
    if account.dropped:
        lines += ["", "Left out:"]
        for dropped in account.dropped:
            lines += _dropped_lines(dropped)
        if len(account.dropped) == MOST_CASES:
            lines.append("  … and perhaps more: the list ends here")
    if account.clusters:
        lines += ["", "Near duplicates:"]
        for cluster in account.clusters:
            lines += _cluster_lines(cluster)
    member = next((name for name in _names_in(account) if name.startswith(f"{account.source}!")), None)
    if member is not None:
        # In single quotes, because ! has a meaning of its own in a shell.
        lines += ["", f"Of one of them alone: why {shlex.quote(visible(member))}"]
    return "\n".join(lines)


def _names_in(account: Account) -> Iterable[str]:
    return [*account.kept, *(dropped["source"] for dropped in account.dropped)]


def _file_lines(account: Account) -> list[str]:
    file = account.file
    assert file is not None
    lines = []
    if file["source"] != account.source:
        lines.append(f"  a document of {visible(file['source'])}, which has:")
    if not file.get("read", True):  # earlier versions listed files that were read alone
        lines.append(f"  {size(file['num_bytes'])}; was left out before anything in it was read")
        return lines
    left_out = file["documents_in"] - file["kept"]
    lines.append(
        f"  {size(file['num_bytes'])}, {counted(file['documents_in'], 'document')}: {number(file['kept'])} in the "
        f"corpus ({size(file['bytes_kept'])}), {number(left_out)} left out"
    )
    lines += [_reason_line(reason, times) for reason, times in by_size(file["dropped"])]
    if file["source"] != account.source and not account.dropped:
        lines.append("  this document is in the corpus")
    return lines


def _reason_line(reason: str, times: int) -> str:
    text = f"    {number(times):>9} {reason}" + (f": {REASONS[reason]}" if reason in REASONS else "")
    return textwrap.fill(text, WIDTH, subsequent_indent=" " * 14, break_long_words=False)


def _dropped_lines(dropped: Mapping[str, Any]) -> list[str]:
    detail = f": {visible(dropped['detail'])}" if dropped.get("detail") else ""
    lines = [f"  {visible(dropped['source'])}  {dropped['reason']}{detail}"]
    if dropped.get("sample"):
        lines.append(f"      “{one_line(dropped['sample'], WIDTH - 8)}”")
    return lines


def _cluster_lines(cluster: Mapping[str, Any]) -> list[str]:
    members = cluster["members"]
    lines = [f"  {counted(len(members), 'document')} are alike; {visible(cluster['kept'])} stands for all"]
    lines += [
        f"    {member['similarity']:.3f}  {visible(member['source'])}" for member in members[:MOST_LINES]
    ]
    if len(members) > MOST_LINES:
        lines.append(f"    and {len(members) - MOST_LINES} more")
    return lines


def trace_page(trace: Trace) -> str:
    """Where a sentence came from."""
    if trace.num_documents:
        told = "" if trace.num_documents == len(trace.found) else f"; the first {len(trace.found)} of them"
        times = (
            "1 document holds"
            if trace.num_documents == 1
            else f"{number(trace.num_documents)} documents hold"
        )
        return "\n\n".join([f"{times} it{told}:", *map(_found_lines, trace.found)])
    if trace.dropped:
        lines = ["No document of the corpus holds it, but something that was left out does:"]
        for found in trace.dropped:
            lines += _dropped_lines(found.record)
        return "\n".join(lines)
    return (
        "No document of the corpus holds it. It may have been taken out or changed by cleaning (recurring lines, "
        "wrappers, personal data), stand in a document that was left out (of these only the beginning is kept), or "
        "never have been there. A shorter piece of it may be found; upper and lower case count."
    )


def _found_lines(found: Found) -> str:
    record = found.record
    lines = [
        f"{visible(record['source'])}",
        f"  id {record['id']}, line {number(found.line)} of the corpus, character {number(found.start)} of the text",
    ]
    if found.split is not None:
        lines.append(f"  split {found.split}")
    if found.members:
        shown = ", ".join(map(visible, found.members[:5]))
        more = f" and {len(found.members) - 5} more" if len(found.members) > 5 else ""
        lines.append(f"  nearly the same: {shown}{more}")
    around = f"{_flat(found.before)}»{_flat(found.sentence)}«{_flat(found.after)}"
    lines.append(textwrap.indent(textwrap.fill(around, WIDTH - 4), "    "))
    return "\n".join(lines)


def _flat(text: str) -> str:
    return " ".join(visible(text).split()) if text.isspace() else _keep_ends(text)


def _keep_ends(text: str) -> str:
    """One line, with a space at an end where white space was."""
    inner = " ".join(visible(text).split())
    return (" " if text[:1].isspace() else "") + inner + (" " if text[-1:].isspace() else "")


def sample_page(reason: str, samples: Sequence[Mapping[str, Any]]) -> str:
    """Some of the things that were left out for a reason."""
    lines = [f"{reason}" + (f": {REASONS[reason]}" if reason in REASONS else "")]
    for dropped in samples:
        detail = f"  {visible(dropped['detail'])}" if dropped.get("detail") else ""
        lines += ["", f"{visible(dropped['source'])} ({size(dropped['num_bytes'])}){detail}"]
        if dropped.get("sample"):
            lines.append(textwrap.indent(visible(dropped["sample"]), "  | ", lambda _line: True))
    return "\n".join(lines)


def forget_page(
    changed: Sequence[str],
    asked: Sequence[str],
    *,
    undo: bool,
    copies: Sequence[str] = (),
    old_results: Sequence[Path] = (),
) -> str:
    """What `forget` did and what it did not do.

    Args:
        changed, asked: Sources whose state changed, and all that were named.
        copies: Sources that were left out as copies of these and would now take their place.
        old_results: Directories of earlier results, which hold the text too.
    """
    if not changed:
        state = "not forgotten" if undo else "forgotten already"
        return (
            f"nothing changed: {', '.join(map(visible, asked))} {'is' if len(asked) == 1 else 'are'} {state}"
        )
    listed = "\n".join(f"  {visible(source)}" for source in changed)
    if undo:
        return f"no longer forgotten, and collected again the next time:\n{listed}"
    instead = "\n".join(f"  {visible(source)}" for source in copies)
    kept = "\n".join(f"  {visible(str(place))}" for place in old_results)
    return (
        f"recorded; left out the next time that the corpus is collected:\n{listed}\n"
        + (
            f"copies that would take their place; forget them too if you mean the text:\n{instead}\n"
            if copies
            else ""
        )
        + (f"earlier results that hold the text until you delete them:\n{kept}\n" if old_results else "")
        + "This removes neither the raw file, which you may want to delete yourself, nor what was made from it: the "
        "corpus, the dataset and the cache hold the text until they are made anew, and what models have learned from "
        "it they go on knowing until they are trained anew without it."
    )


def clean_page(found: Sequence[tuple[str, int, str]], *, deleted: bool) -> str:
    """What nothing uses, as (place, bytes, what it is), the largest first."""
    if not found:
        return "nothing to delete: no result was replaced, and no collection left shards unused"
    total = size(sum(num_bytes for _, num_bytes, _ in found))
    lines = [
        f"  {size(num_bytes):>10}  {visible(place)}  ({why})"
        for place, num_bytes, why in sorted(found, key=lambda one: (-one[1], one[0]))
    ]
    if deleted:
        return "\n".join([f"deleted, {total} in all:", *lines])
    return "\n".join([f"nothing uses these, {total} in all:", *lines, "add --yes to delete them"])


def summary_page(facts: Mapping[str, Any]) -> str:
    """The data report on one page of text.

    Args:
        facts: As `data_report.gather_facts` returns them.
    """
    collection = facts["collection"]
    found, kept = collection["documents_in"], collection["kept"]
    bytes_dropped: Mapping[str, int] = collection["bytes_dropped"]
    blocks = [
        _table(
            "All together",
            ("documents", "bytes"),
            [
                ("found", number(found), size(collection["bytes_in"])),
                ("kept", number(kept), size(collection["bytes_kept"])),
                ("left out", number(found - kept), size(sum(bytes_dropped.values()))),
                ("taken from kept texts", "", size(collection["bytes_removed"])),
                ("around kept texts", "", size(collection["bytes_around"])),
            ],
        ),
        [
            textwrap.fill(visible(sentence), WIDTH, initial_indent="! ", subsequent_indent="  ")
            for sentence in facts["notable"]
        ],
        _table(
            "Left out",
            ("documents", "share", "bytes"),
            [
                (reason, number(times), share(times, found), size(bytes_dropped.get(reason, 0)))
                for reason, times in by_size(collection["dropped"])
            ],
        ),
        _table(
            "Sources",
            ("documents", "kept"),
            [
                (
                    "(in no directory)" if name == "." else name,
                    number(group["documents_in"]),
                    share(group["kept"], group["documents_in"]),
                )
                for name, group in _by(collection["groups"], "documents_in")
            ],
        ),
        _table(
            "Languages",
            ("documents", "bytes", "share"),
            [
                (
                    name,
                    number(counts["documents"]),
                    size(counts["bytes"]),
                    share(counts["bytes"], collection["bytes_kept"]),
                )
                for name, counts in _by(collection["languages"], "bytes")
            ],
        ),
        _table(
            "Lengths",
            ("documents", "share"),
            [
                (f"from {number(int(length))} characters", number(times), share(times, kept))
                for length, times in collection["lengths"].items()
            ],
            most=MOST_POWERS,
        ),
        _table(
            "Taken from kept texts",
            ("bytes",),
            [(words(step), size(num_bytes)) for step, num_bytes in by_size(collection["removed_by"])],
        ),
        _duplicates_table(facts["duplicates"], collection["dropped"]),
        _splits_table(facts["dataset"]),
    ]
    return "\n\n".join("\n".join(block) for block in blocks if block)


def _table(
    title: str, heads: Sequence[str], rows: Sequence[Sequence[str]], *, most: int = MOST_LINES
) -> list[str]:
    """Lines with a name in front and right-aligned values behind, the same columns in every table."""
    if not rows:
        return []
    named = [
        (title, *heads),
        *((f"  {one_line(name, NAME_COLUMNS - 2)}", *values) for name, *values in rows[:most]),
    ]
    lines = [
        f"{name:<{NAME_COLUMNS}}" + "".join(f"{value:>{VALUE_COLUMNS}}" for value in values)
        for name, *values in named
    ]
    return lines + ([f"  and {len(rows) - most} more"] if len(rows) > most else [])


def _duplicates_table(duplicates: Mapping[str, Any] | None, dropped: Mapping[str, int]) -> list[str]:
    if duplicates is None:
        return []
    rows = [
        ("left out, the same as another", number(dropped.get("duplicate", 0))),
        ("left out, nearly the same", number(dropped.get("near_duplicate", 0))),
        (f"in {counted(duplicates['clusters'], 'cluster')} of near ones", number(duplicates["documents"])),
    ]
    return _table("Duplicates", ("documents",), rows)


def _splits_table(dataset: Mapping[str, Any] | None) -> list[str]:
    if dataset is None:
        return []
    rows = [
        (
            split,
            number(values["documents"]),
            number(values["tokens"]),
            f"{values['bytes_per_token']:.2f}",
        )
        for split, values in dataset["splits"].items()
    ]
    return _table("Splits", ("documents", "tokens", "bytes/token"), rows)


def _by(counts: Mapping[str, Mapping[str, Any]], key: str) -> Iterable[tuple[str, Mapping[str, Any]]]:
    return sorted(counts.items(), key=lambda item: (-item[1][key], item[0]))
