"""How many frames of a clip are decoded: a setting of the processor. Without PyTorch."""

from pathlib import Path
from typing import NamedTuple

from mobilevideogpt.files import read_json
from mobilevideogpt.video.sampling import NUM_FRAMES

SETTINGS_FILE = "processor_config.json"


class FrameBounds(NamedTuple):
    """Bounds of the number of frames; see `mobilevideogpt.video.sampling.frame_indices`."""

    min_frames: int = NUM_FRAMES
    max_frames: int = NUM_FRAMES


def read_frame_bounds(folder: str | Path) -> FrameBounds:
    """Read the bounds that a saved processor has; a released checkpoint has none and gets the defaults."""
    path = Path(folder, SETTINGS_FILE)
    saved = read_json(path, "fetch the checkpoint again", shape=dict) if path.is_file() else {}
    return FrameBounds(**{name: saved[name] for name in FrameBounds._fields if name in saved})
