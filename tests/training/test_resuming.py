import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from core.distributed import World
from core.errors import MismatchError
from core.files import sha256_file
from training.checkpoint import save_checkpoint
from training.resuming import agreed_checkpoint


@dataclasses.dataclass(frozen=True)
class Second(World):
    """The second of two processes, which hears what the main one found."""

    heard: Any = None

    def from_main(self, make: Callable[[], Any]) -> Any:
        return self.heard


def test_processes_go_on_from_the_checkpoint_that_the_main_one_found(kit) -> None:
    for step in (4, 8):
        save_checkpoint(kit.root / f"step_{step}", kit.model(), None, facts={"step": step})
    digest = sha256_file(kit.root / "step_4" / "MANIFEST.json")
    # A newer one that only this process sees does not count.
    found = agreed_checkpoint(Second(rank=1, size=2, heard=["step_4", digest]), kit.root)
    assert found == kit.root / "step_4"
    assert agreed_checkpoint(Second(rank=1, size=2, heard=None), kit.root) is None


@pytest.mark.parametrize(("name", "found"), [("step_8", "is another one"), ("step_12", "is not there")])
def test_a_process_that_sees_another_directory_says_so(kit, name: str, found: str) -> None:
    save_checkpoint(kit.root / "step_8", kit.model(), None, facts={"step": 8})
    world = Second(rank=1, size=2, heard=[name, "0" * 64])
    with pytest.raises(MismatchError, match=f"but here it {found}; all machines .* one shared directory"):
        agreed_checkpoint(world, Path(kit.root), wait_seconds=0.0)
