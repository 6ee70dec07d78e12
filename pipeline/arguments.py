"""The command line of the training scripts, with help that is generated from the configuration's fields.

Loads no tensor library, so that help and a mistyped flag are answered at once.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from core.config import merge, parse_overrides
from core.errors import UsageError
from core.training_config import PipelineConfig

STAGE_NAMES = (
    *("collect", "tokenizer", "dataset", "data_report"),
    *("pretrain", "instructions", "finetune", "preferences", "preference", "evaluate"),
)
"""The stages that `pipeline.stages.line` makes, in order; a test holds the two together."""

ABOUT_SETTINGS = """\
settings, given as section.setting=value, anywhere on the line:
  A value is JSON (3, 1e-3, true, null) or plain text. A list of texts may be
  written as a,b; nothing behind the = is an empty list, and a text with a
  comma in it needs JSON, as in data.include='["a,b.txt"]'. null leaves unset
  what may be unset. Quotes keep the shell from reading * and [ itself.
  The defaults shown hold where neither the files of --config-dir nor the
  preset that they name says otherwise."""


class Parser(argparse.ArgumentParser):
    """Reports mistakes like every other error of the project, and takes dotted overrides anywhere on the line."""

    def __init__(
        self, description: str, *, sections: Sequence[str], examples: Sequence[str], run: str | None = None
    ) -> None:
        """Args:
        sections: Whose settings the help lists.
        run: What the help says of the argument RUN, which comes before the settings; None = there is no such one.
        """
        settings = [
            PipelineConfig.model_fields[name].annotation.describe(f"{name}.")  # type: ignore[union-attr]
            for name in sections
        ]
        super().__init__(
            description=description,
            # The examples come last: of a long page a terminal shows the end.
            epilog="\n\n".join([ABOUT_SETTINGS, *settings, "\n  ".join(["examples:", *examples])]),
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        if run is not None:
            self.add_argument("run", metavar="RUN", type=Path, help=run)
        self.add_argument(
            "overrides", nargs="*", metavar="section.setting=value", help="settings; they are listed below"
        )
        self.add_argument("--debug", action="store_true", help="show tracebacks and developers' messages")

    def parse(self, arguments: Sequence[str]) -> tuple[argparse.Namespace, dict[str, Any]]:
        """The flags and the nested values of the overrides."""
        flags = self.parse_intermixed_args(arguments)
        return flags, parse_overrides(flags.overrides, configured=PipelineConfig)

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing."""
        raise UsageError(f"{message} (see --help)")


def set_value(overrides: dict[str, Any], dotted: str, value: Any) -> dict[str, Any]:
    """`overrides` with one more value, unless it is None (the flag was not given)."""
    if value is None:
        return overrides
    return merge(overrides, parse_overrides([f"{dotted}={json.dumps(value)}"]))
