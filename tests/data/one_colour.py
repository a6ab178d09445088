"""A double of `mobilevideogpt.video.frames.clip_frames`, in a module that does not import PyTorch."""

import os
import signal
import time
from pathlib import Path

import numpy as np

from mobilevideogpt.errors import InputError


def one_colour(path: str, digest: str) -> dict[str, np.ndarray]:
    """Return frames of one colour, the number in the clip's name."""
    if "broken" in path:
        raise InputError(f"{path}: cannot be decoded")
    if "killer" in path:
        os.kill(os.getpid(), signal.SIGKILL)
    if "hangs" in path:
        Path(path).touch()  # tells the test that it has begun
        time.sleep(600)
    frames = np.full((16, 224, 224, 3), int(path.split(".")[0]), np.uint8)
    return {"pixel_values_videos": frames, "pixel_values_context": frames}
