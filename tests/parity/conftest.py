from pathlib import Path

import pytest
import weights
from measure import Measured

from mobilevideogpt import MobileVideoGPTForConditionalGeneration


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> Path:
    """A reduced model in the released layout, with the encoders inside and in files of their own."""
    return Path(weights.write_checkpoint(tmp_path_factory.mktemp("checkpoint")))


@pytest.fixture(scope="session")
def measured(checkpoint) -> Measured:
    return Measured(MobileVideoGPTForConditionalGeneration.from_pretrained(checkpoint))
