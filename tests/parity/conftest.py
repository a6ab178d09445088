from pathlib import Path

import pytest

from mobilevideogpt import MobileVideoGPTForConditionalGeneration
from tests.parity import weights
from tests.parity.measure import Measured


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory) -> Path:
    """A reduced model in the released layout, with the encoders inside and in files of their own."""
    return Path(weights.write_checkpoint(tmp_path_factory.mktemp("checkpoint")))


@pytest.fixture(scope="session")
def measured(checkpoint) -> Measured:
    return Measured(MobileVideoGPTForConditionalGeneration.from_pretrained(checkpoint))
