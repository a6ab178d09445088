"""Arrays that a process returns to another one through shared memory: a pipe carries a third of the clips a second.

The memory has no name in any folder, so that a killed process leaves nothing behind. Where a system has none of that
kind (it is Linux's), or a process may not open another one's, the arrays return as any other result.
"""

import math
import mmap
import os
import weakref
from collections.abc import Callable
from functools import lru_cache
from itertools import count
from typing import Any, NamedTuple

import numpy as np

_numbers = count()


class Memory(NamedTuple):
    """Memory that a process shares: its descriptor there, and a number, as a descriptor is used again."""

    process: int
    descriptor: int
    number: int


class Slot(NamedTuple):
    """A part of shared memory: ``size`` bytes from ``start``."""

    memory: Memory
    start: int
    size: int


class Placed(NamedTuple):
    """Arrays in a slot: the offset there, the shape and the dtype of each."""

    arrays: dict[str, tuple[int, tuple[int, ...], str]]


class SharedSlots:
    """Equal parts of memory that this process shares, each for the result of one call at a time.

    The newest free one is taken, so that no more memory is used than results are there.

    Args:
        number: How many slots.
        size: Bytes of each. Memory is taken where it is written to.
    """

    def __init__(self, number: int, size: int):
        descriptor = os.memfd_create("arrays")
        weakref.finalize(self, os.close, descriptor)
        os.ftruncate(descriptor, number * size)
        self._memory = mmap.mmap(descriptor, number * size)
        memory = Memory(os.getpid(), descriptor, next(_numbers))
        self._free = [Slot(memory, start * size, size) for start in range(number)]

    def take(self) -> Slot | None:
        """Return a slot that is not in use, or None."""
        return self._free.pop() if self._free else None

    def taken(self, slot: Slot, result: Any) -> Any:
        """Return the result of `call_into`; the slot is free again once nobody refers to arrays in it."""
        if not isinstance(result, Placed):
            self._free.append(slot)
            return result
        whole = np.ndarray(slot.size, np.uint8, self._memory, slot.start)
        weakref.finalize(whole, self._free.append, slot)
        found = {}
        for name, (start, shape, dtype) in result.arrays.items():
            end = start + math.prod(shape) * np.dtype(dtype).itemsize
            found[name] = whole[start:end].view(dtype).reshape(shape)
        return found


def shared_slots(number: int, size: int) -> SharedSlots | None:
    """Return slots; None where the system has no such memory, or not as much for this process."""
    try:
        return SharedSlots(number, size) if number else None
    except (AttributeError, OSError):  # os.memfd_create is Linux's
        return None


def call_into(slot: Slot, function: Callable, *arguments: Any) -> Any:
    """Return ``function(*arguments)``; of arrays by name that fit the slot, where they are in it."""
    result = function(*arguments)
    is_arrays = isinstance(result, dict) and all(isinstance(value, np.ndarray) for value in result.values())
    if not is_arrays or sum(array.nbytes for array in result.values()) > slot.size:
        return result
    try:
        memory = _opened(slot.memory)
    except OSError:
        return result
    start, placed = 0, {}
    for name, array in result.items():
        np.ndarray(array.shape, array.dtype, memory, slot.start + start)[...] = array
        placed[name] = start, array.shape, array.dtype.str
        start += array.nbytes
    memory.madvise(mmap.MADV_DONTNEED)  # else it counts as this process's, which loky restarts when it grows
    return Placed(placed)


@lru_cache(1)
def _opened(memory: Memory) -> mmap.mmap:
    descriptor = os.open(f"/proc/{memory.process}/fd/{memory.descriptor}", os.O_RDWR)
    try:
        return mmap.mmap(descriptor, 0)
    finally:
        os.close(descriptor)
