"""The frames of a clip that the model chose for its video encoder."""

import torch
from torch import Tensor

from mobilevideogpt.model.configuration import FRAMES_PER_CHUNK, MobileVideoGPTConfig
from mobilevideogpt.model.selection import select_frames


def chosen_frames(scores: Tensor, config: MobileVideoGPTConfig) -> dict[str, list]:
    """Return the scores of a clip's frames and the positions of those that the video encoder received."""
    chunks = scores.unflatten(0, (-1, FRAMES_PER_CHUNK))
    chosen = select_frames(chunks, config.video_num_frames // len(chunks), config.select_highest)
    chosen = chosen + FRAMES_PER_CHUNK * torch.arange(len(chunks))[:, None]
    return {"scores": [round(score, 3) for score in scores.tolist()], "chosen": chosen.flatten().tolist()}
