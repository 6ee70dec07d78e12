"""One collection in a process of its own: `collect_child.py RAW OUT`. Goes on from what is there."""

import sys
from pathlib import Path

from core.data_config import DataConfig
from data_processing.collecting import shard_plan
from data_processing.data_collector import DataCollector
from pipeline.command import run_command


def collect(raw: Path, out: Path) -> int:
    """Collect with shards of a dozen files, by two workers."""
    shard_plan.MEAN_ITEMS = 12
    DataCollector(out, config=DataConfig.from_dict({"num_workers": 2})).collect_from_directory(raw)
    return 0


if __name__ == "__main__":
    sys.exit(run_command(lambda: collect(Path(sys.argv[1]), Path(sys.argv[2]))))
