"""Whether a machine can fine-tune the released base at all: known in seconds, before anything is downloaded."""

import os
import time

from mobilevideogpt.errors import InputError
from mobilevideogpt.machine import DriverError, driver_gpus
from mobilevideogpt.tiny_base import WITHOUT_GPU

# Of the released base, forward and backward through frozen weights: 0.36e9 weights in the layers, 2,460 tokens a clip,
# and the attention between them.
OPERATIONS_A_SAMPLE = 5e12
EFFICIENCY = 0.5  # of a training, beside one large product of matrices
SIZE = 1024  # of that product


def check_device(allow_cpu: bool, samples: int | None = None, epochs: float = 1) -> str:
    """Check that there is a GPU where one is needed.

    Args:
        allow_cpu: ``preflight.allow_cpu``.
        samples: Number of samples to train on, for a forecast; None if unknown.
        epochs: Passes over them.

    Returns:
        The device, in words.

    Raises:
        InputError: If there is no GPU and the CPU may not be used.
    """
    try:
        if gpus := driver_gpus():
            return gpus[0].name
        reason = "the driver lists none"
    except DriverError as error:
        reason = str(error)
    if allow_cpu:
        return "cpu, unless PyTorch finds a GPU"
    import torch

    if torch.cuda.is_available():  # one whose driver is not NVIDIA's
        return torch.cuda.get_device_name(0)
    forecast = f", {_words(forecast_hours(samples, epochs))}" if samples else ""
    raise InputError(
        f"no GPU ({reason}): the fine-tuning would not run on this machine; use a machine with a GPU, or set "
        f"preflight.allow_cpu: true, which is slow{forecast}; {WITHOUT_GPU.partition('; ')[2]}"
    )


def forecast_hours(samples: int, epochs: float) -> float:
    """Estimate the hours of a fine-tuning of the released base on this machine's CPU, from the speed of a product."""
    return samples * epochs * OPERATIONS_A_SAMPLE / (EFFICIENCY * _operations_a_second()) / 3600


def _operations_a_second() -> float:
    import torch

    a, b = torch.ones(SIZE, SIZE), torch.ones(SIZE, SIZE)
    torch.mm(a, b)  # starts the threads
    started = time.perf_counter()
    torch.mm(a, b)
    return 2 * SIZE**3 / (time.perf_counter() - started)


def _words(hours: float) -> str:
    cores = f"the {os.cpu_count()} cores here"
    return f"by a rough estimate {hours:.0f} hours on {cores}" if hours >= 1 else f"less than an hour on {cores}"
