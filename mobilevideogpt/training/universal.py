"""A ZeRO checkpoint for another number of processes, as DeepSpeed's universal checkpoint."""

import logging
import os
import subprocess
import sys
from pathlib import Path

from mobilevideogpt.training.checkpoints import read_fingerprint

logger = logging.getLogger(__name__)


def is_shared_by_others(checkpoint: Path | None, processes: int) -> bool:
    """Whether a checkpoint was saved in shares of ZeRO by another number of processes than ``processes``."""
    found = read_fingerprint(checkpoint) if checkpoint else None
    return found is not None and found.deepspeed is not None and found.processes != processes


def write_universal(checkpoint: Path, folder: Path) -> None:
    """Write a checkpoint whose shares are put together, so that any number of processes can load it.

    Args:
        checkpoint: ``checkpoint-N``, saved under ZeRO.
        folder: The new one; its other files are links to those of ``checkpoint``.

    Raises:
        RuntimeError: If DeepSpeed cannot convert it.
    """
    folder.mkdir()
    shares = checkpoint / (checkpoint / "latest").read_text(encoding="utf-8").strip()
    for path in checkpoint.iterdir():
        if path != shares:
            (folder / path.name).symlink_to(path.resolve())
    # A process of its own: DeepSpeed's conversion prints, and starts others.
    command = ["-m", "deepspeed.checkpoint.ds_to_universal", "--inject_missing_state"]
    paths = ["--input_folder", str(shares), "--output_folder", str(folder / shares.name)]
    environment = {name: value for name, value in os.environ.items() if name not in ("RANK", "WORLD_SIZE")}
    done = subprocess.run([sys.executable, *command, *paths], capture_output=True, text=True, env=environment)
    logger.debug("%s", done.stdout)
    if done.returncode:
        raise RuntimeError(f"{checkpoint}: could not be converted for another number of processes: {done.stderr}")
