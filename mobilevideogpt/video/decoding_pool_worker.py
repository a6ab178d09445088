"""Set-up of a process that decodes clips for `decoding_pool`. Without PyTorch, so that it starts quickly."""

import cv2

from mobilevideogpt.processes import work_for


def start_decoding_worker(parent: int) -> None:
    """Make this process a decoding worker of process ``parent``: one core, and terminated with the parent."""
    work_for(parent)
    cv2.setNumThreads(1)
