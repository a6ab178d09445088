"""Precision of the encoders' products in float32 on a GPU."""

from collections.abc import Iterator
from contextlib import contextmanager
from threading import RLock
from typing import Any, cast

import torch

ENCODER_PRECISIONS = ("auto", "tf32", "fp32", "bf16")
_one_at_a_time = RLock()


@contextmanager
def float32_products(device_type: str, tf32: bool) -> Iterator[None]:
    """Compute products and convolutions of float32 tensors on a GPU in TF32, or in full precision, and then as before.

    TF32 rounds the factors to 10 bits behind the point and sums in float32; GPUs before compute capability 8.0 have
    none and ignore it. A CPU is not affected. PyTorch's switches belong to the whole process, so threads launch their
    kernels in turn.
    """
    if device_type != "cuda":
        yield
        return
    products, convolutions = torch.backends.cuda.matmul, cast(Any, torch.backends.cudnn)
    with _one_at_a_time:
        before = products.allow_tf32, convolutions.allow_tf32
        products.allow_tf32 = convolutions.allow_tf32 = tf32
        try:
            yield
        finally:
            products.allow_tf32, convolutions.allow_tf32 = before
