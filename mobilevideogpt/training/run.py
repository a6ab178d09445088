"""The values that all parts of one fine-tuning share."""

from dataclasses import dataclass, field
from pathlib import Path

from mobilevideogpt.model.model_paths import ModelPaths
from mobilevideogpt.training.checkpoints import Fingerprint
from mobilevideogpt.training.plan import Launch
from mobilevideogpt.training.settings import TrainingSettings


@dataclass(frozen=True)
class Run:
    """One fine-tuning.

    Attributes:
        settings: With numbers and the precision for this machine.
        launch: The processes, and DeepSpeed.
        model: Paths of base and encoders.
        folder: The run's folder.
        fingerprint: That of its checkpoints and its adapter.
        digests: Of each part of the inputs, for the run record.
        configuration: The whole configuration of the caller, to be written to config.yaml.
    """

    settings: TrainingSettings
    launch: Launch
    model: ModelPaths
    folder: Path
    fingerprint: Fingerprint
    digests: dict[str, str] = field(default_factory=dict)
    configuration: dict = field(default_factory=dict)
