"""Write a trained model for other programs (transformers, llama.cpp, onnxruntime, torch), proven in the program that
will run it; a certificate beside the files says what was compared."""

import re
import sys
from typing import Any

from core.errors import UsageError
from core.logs import log_to_console
from inference.export.tolerances import TOLERANCES
from pipeline.command import Parser, run_command

EXAMPLES = (
    "python scripts/export.py runs/mine --to hf --dtype bfloat16",
    "python scripts/export.py runs/mine --to gguf --dtype q8_0",
)

UNITS = {"": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}


def parser() -> Parser:
    """The command line of this script."""
    result = Parser(description=__doc__, examples=EXAMPLES)
    add = result.add_argument
    add("model", metavar="RUN_OR_CHECKPOINT", help="directory of a run or of a model")
    add("--to", required=True, metavar="FORMAT", help="format to write: " + ", ".join(TOLERANCES))
    dtypes = "; ".join(f"{name}: {', '.join(dtypes)}" for name, dtypes in TOLERANCES.items())
    add("--dtype", help=f"of the weights, the first being the default ({dtypes})")
    add(
        "--output",
        metavar="DIR",
        help="a new directory. Default: export/FORMAT-DTYPE in the run, or beside the model.",
    )
    add(
        "--max-shard-size",
        metavar="SIZE",
        help="of one file of weights, for hf alone: 500MB, 5GB. Default: 5GB.",
    )
    add(
        "--unproven",
        action="store_true",
        help="go without the proof if what would give it is not installed; the certificate then says so",
    )
    add("--debug", action="store_true", help="show tracebacks and developers' messages")
    return result


def main(arguments: list[str]) -> int:
    """Run the command line and return the exit code."""
    flags = parser().parse_args(arguments)
    max_shard_bytes = None if flags.max_shard_size is None else _bytes(flags.max_shard_size)
    log_to_console(verbose=flags.debug)

    # Imported after everything else is checked: torch takes a second to load.
    from inference.export.exporting import export_model

    output, certificate = export_model(
        flags.model,
        flags.to,
        dtype=flags.dtype,
        output=flags.output,
        max_shard_bytes=max_shard_bytes,
        unproven=flags.unproven,
    )
    for line in summary(certificate):
        print(line)
    print(f"written to {output}")
    return 0


def summary(certificate: dict[str, Any]) -> list[str]:
    """What the certificate says, in a few lines."""
    if not certificate["proven"]:
        return ["UNPROVEN: the program that will run it is not installed here, nothing was compared"]
    scores, ids = certificate["scores"], certificate["ids"]
    engine = ", ".join(f"{name} {version}" for name, version in certificate["engine"].items())
    compared = (
        f"{scores['predictions']} predictions, largest difference {scores['max_absolute_difference']:.2g}, "
        f"KL {scores['mean_kl_nats']:.2g} nats, equal best token {scores['equal_argmax']:.1%}"
    )
    lines = [f"proven in {engine}", f"  {scores['of'].replace('_', '-')}: {compared}"]
    if twin := certificate["float32_twin"]:
        lines.append(f"  the same in float32: largest difference {twin['max_absolute_difference']:.2g}")
    lines += [
        f"  {what}: ids of {counts['equal']} of {counts['compared']} equal" for what, counts in ids.items()
    ]
    if certificate["rounding"]:
        rounding = certificate["rounding"]
        lines.append(
            f"  {certificate['dtype']} instead of float32: KL {rounding['mean_kl_nats']:.2g} nats, "
            f"equal best token {rounding['equal_argmax']:.1%}"
        )
    return lines


def _bytes(text: str) -> int:
    match = re.fullmatch(r"(\d+)\s*(KB|MB|GB|)", text, re.IGNORECASE)
    if match is None or int(match[1]) < 1:
        raise UsageError(
            f"--max-shard-size {text or repr(text)}: expected a number of bytes, or with a unit, such as 500MB or 5GB"
        )
    return int(match[1]) * UNITS[match[2].upper()]


if __name__ == "__main__":
    sys.exit(run_command(lambda: main(sys.argv[1:]), debug="--debug" in sys.argv))
