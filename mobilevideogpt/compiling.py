"""Functions compiled by Numba."""

from collections.abc import Callable
from typing import Any

import numba


def compiled(function: Callable, **options) -> Callable[..., Any]:
    """Compile on the first call, and cache the result on disk for later processes.

    Args:
        function: Loops over arrays.
        options: Those of `numba.njit`.
    """
    options = {"nogil": True, "error_model": "numpy"} | options
    try:
        return numba.njit(cache=True, **options)(function)
    except RuntimeError:  # neither __pycache__ nor the user's cache is writable: each process compiles, in 2 s
        return numba.njit(**options)(function)
