"""Facts about a GPU that kernels choose their tiles by."""

from functools import cache

import torch


@cache
def multiprocessors(device: torch.device) -> int:
    """Return the number of multiprocessors of a GPU."""
    return torch.cuda.get_device_properties(device).multi_processor_count
