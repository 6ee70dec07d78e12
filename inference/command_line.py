"""What the commands chat, generate and serve share: their flags, made from the sampling settings. Loads no model."""

import argparse
import itertools
import json
import re
import textwrap
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, cast

from core.config import HELP_COLUMNS, nearest
from core.errors import ConfigError, UsageError
from inference.sampling_settings import SamplingOptions, SamplingSettings
from inference.weight_formats import WEIGHT_FORMATS

NAMES = tuple(SamplingOptions.__annotations__)
"""The sampling settings that a user can give."""


class Parser(argparse.ArgumentParser):
    """The flags of a command that uses a model; mistakes are reported like every other error of the project."""

    def __init__(self, description: str, *, examples: Sequence[str]) -> None:
        super().__init__(
            description=textwrap.fill(description, HELP_COLUMNS),
            epilog="\n  ".join(["examples:", *examples]),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self.add_argument(
            "model",
            nargs="?",
            metavar="RUN_OR_CHECKPOINT",
            help="directory of a run or of a model. Default: the run in runs/ that was trained last.",
        )
        self.add_argument(
            "--device",
            default="auto",
            help="run on auto (CUDA, then MPS, then CPU), cpu, cuda, cuda:1 or mps. Default: auto.",
        )
        self.add_argument(
            "--weights",
            choices=("auto", *WEIGHT_FORMATS),
            default="auto",
            help="lay the weights out in this format: float32 is exact, float16 and bfloat16 take about half as long "
            "for a token of a large model, int8 less still. Default: auto, on a CPU float16 where it is fast (answers "
            "as good as in float32), else float32; on a GPU as in training.",
        )
        self.add_argument(
            "--compile",
            action="store_true",
            help="let torch.compile fuse the layers when a token is made. On CUDA; the first answer waits for it.",
        )
        sampling = self.add_argument_group("sampling")
        for row in SamplingSettings.settings_help():
            if row.key in NAMES:
                sampling.add_argument(
                    _as_flag(row.key),
                    action="append" if row.key == "stop" else "store",
                    metavar=row.type.split(" | ")[0].upper(),
                    help=f"{row.description} Default: {row.default}.".replace("%", "%%"),
                )
        self.add_argument("--debug", action="store_true", help="show tracebacks and developers' messages")

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing."""
        raise UsageError(f"{message.removeprefix('argument ')} (see --help)")


def whole_number(least: int, most: int | None = None) -> Callable[[str], int]:
    """The type of a flag: a whole number from `least` to `most`, or without an upper limit."""
    expected = f"{least} or more" if most is None else f"{least} to {most}"

    def parse(text: str) -> int:
        if not re.fullmatch(r"-?\d{1,18}", text, re.ASCII) or not least <= int(text) <= (most or int(text)):
            raise argparse.ArgumentTypeError(f"expected a whole number, {expected}, found {text!r:.80}")
        return int(text)

    return parse


def given_sampling(flags: argparse.Namespace) -> SamplingOptions:
    """The sampling settings that were given on the command line, checked.

    Raises:
        ConfigError: one is out of range; the message begins with the flag.
    """
    texts = [(name, text) for name in NAMES if name != "stop" and (text := getattr(flags, name)) is not None]
    sampling = changed_sampling({}, texts, spelled=_as_flag)
    if flags.stop:  # as often as there are texts
        stops = [changed_sampling({}, [("stop", text)], spelled=_as_flag)["stop"] for text in flags.stop]
        sampling["stop"] = _checked("stop", tuple(itertools.chain(*stops)), spelled=_as_flag)
    return sampling


def changed_sampling(
    sampling: SamplingOptions,
    changes: Sequence[tuple[str, str]],
    *,
    spelled: Callable[[str], str] = lambda name: name,
) -> SamplingOptions:
    """`sampling` with values given as text: numbers, or "null" (also "none" or "off") for no limit.

    Args:
        spelled: How the user spells the name of a setting, for messages.

    Raises:
        ConfigError: a setting is unknown or a value out of range.
    """
    values: dict[str, Any] = dict(sampling)
    for given, text in changes:
        name = given.lstrip("-").replace("-", "_")
        if name not in NAMES:
            raise ConfigError(f"unknown setting {given!r}{nearest(name, NAMES)} (known: {', '.join(NAMES)})")
        value = _value(text)
        if name == "stop":
            # As it stands, unless it is JSON's text or list: most white space and digits need none.
            one = value if isinstance(value, str) else text
            value = tuple(value) if isinstance(value, list) else () if value is None else (one,)
            for entry in value:
                _checked(name, (entry,), spelled=spelled)
        values[name] = _checked(name, value, spelled=spelled)
    return cast(SamplingOptions, values)


def _checked(name: str, value: Any, *, spelled: Callable[[str], str]) -> Any:
    try:
        SamplingSettings.from_dict({name: value})
    except ConfigError as error:
        # Of a list, the entry is named too, which nobody numbered.
        raise ConfigError(f"{spelled(name)}: {str(error).partition(': ')[2]}") from None
    return value


def _as_flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _value(text: str) -> Any:
    if text.lower() in ("null", "none", "off"):
        return None
    try:
        return json.loads(text)
    except (ValueError, RecursionError):  # no JSON, or a number of more digits than Python converts
        return text
