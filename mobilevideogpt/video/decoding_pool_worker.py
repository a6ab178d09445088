"""Set-up of a process that decodes clips for `decoding_pool`. Without PyTorch, so that it starts quickly."""

import signal

import cv2

from mobilevideogpt.processes import terminate_with_parent


def start_decoding_worker(parent: int) -> None:
    """Make this process a decoding worker of process ``parent``: one core, and terminated with the parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    terminate_with_parent(parent)
    cv2.setNumThreads(1)
