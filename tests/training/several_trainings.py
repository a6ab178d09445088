"""Several trainings in the processes of one launch, each first stopped by a signal where a copy of that is asked for.

`tests/training/test_finetune.py` and `test_full.py` have the launch itself. Here libraries are imported once for all.
"""

import json
import os
import shutil
import signal
import sys
from pathlib import Path

import torch
from accelerate.state import AcceleratorState

from mobilevideogpt.data.features import FeatureStore
from mobilevideogpt.model.model_paths import ModelPaths
from mobilevideogpt.processes import terminate_with_launcher
from mobilevideogpt.training.finetune import finetune
from mobilevideogpt.training.launch import leaving_process_group
from mobilevideogpt.training.settings import TrainingSettings

ROOT = Path(__file__).parents[2]
READ_BEFORE_THE_SIGNAL = 6  # of this process: the first validation and two steps


class StoppingStore(FeatureStore):
    """Sends the signal of a scheduler to its own process after some reads."""

    def __init__(self, folder):
        super().__init__(folder)
        self.reads = 0

    def read(self, key: str):
        """Return the features."""
        self.reads += 1
        if self.reads == READ_BEFORE_THE_SIGNAL and os.environ["RANK"] == "1":
            os.kill(os.getpid(), signal.SIGTERM)
        return super().read(key)


def train(request: dict, store: FeatureStore) -> dict:
    """Train in all processes of the launch, as if each had just started."""
    AcceleratorState._reset_state(reset_partial_state=True)
    if torch.distributed.is_initialized():
        torch.distributed.barrier()
    return finetune(
        TrainingSettings.from_dict(request["settings"]),
        model=ModelPaths(request["base"]),
        train=request["train"],
        val=request["val"],
        store=store,
        run_folder=request["run_folder"],
        digest="one",
        deepspeed_configs=ROOT / "config",
    )


def stop_and_copy(request: dict, copy: str) -> None:
    """Train until the signal; copy the run's folder as it is then."""
    try:
        train(request, StoppingStore(request["features"]))
    except SystemExit as stopped:
        assert stopped.code == 128 + signal.SIGTERM, stopped.code
    else:
        raise AssertionError("the signal did not stop it")
    if os.environ["RANK"] == "0":
        shutil.copytree(request["run_folder"], copy)
    torch.distributed.barrier()


def main() -> None:
    terminate_with_launcher()
    for request in json.loads(Path(sys.argv[1]).read_text()):
        if copy := request.pop("stopped", None):
            stop_and_copy(request, copy)
        record = train(request, FeatureStore(request["features"]))
        if os.environ["RANK"] == "0":
            Path(request["run_folder"], "train.json").write_text(json.dumps(record))


if __name__ == "__main__":
    with leaving_process_group():
        main()
