import errno
import os

import numpy as np
import psutil
from loky import ProcessPoolExecutor

from mobilevideogpt.video import shared_arrays
from mobilevideogpt.video.decoding_pool import DecodingPool
from mobilevideogpt.video.shared_arrays import Placed, SharedSlots, Slot, call_into, shared_slots


def arrays(name: str, value: int, size: int = 4) -> dict[str, np.ndarray]:
    """Two arrays of one value."""
    return {name: np.full((size, 2), value, np.uint8), "half": np.full(3, value / 2, np.float32)}


def text(name: str) -> str:
    """No arrays."""
    return name


def refuse(descriptor: int, size: int) -> None:
    """As under a limit of the size of files."""
    raise OSError(errno.EFBIG, "File too large")


def test_another_process_returns_arrays_in_its_slot_only():
    shared = SharedSlots(2, 64)
    with ProcessPoolExecutor(1) as pool:
        slots = [shared.take(), shared.take()]
        futures = [pool.submit(call_into, slot, arrays, "a", value) for slot, value in zip(slots, (2, 4), strict=True)]
        for slot, value, future in zip(slots, (2, 4), futures, strict=True):
            placed = future.result()
            assert isinstance(placed, Placed)
            found = shared.taken(slot, placed)
            assert found["a"].dtype == np.uint8 and found["a"].tolist() == [[value] * 2] * 4
            assert found["half"].dtype == np.float32 and found["half"].tolist() == [value / 2] * 3


def test_what_was_returned_no_longer_counts_as_memory_of_the_process():
    size = 2**24
    shared = SharedSlots(8, size)
    slots = [shared.take() for _ in range(8)]
    before = psutil.Process().memory_info().shared
    placed = [call_into(slot, arrays, "a", 3, size // 4) for slot in slots]
    assert psutil.Process().memory_info().shared - before < size
    assert all((shared.taken(*pair)["a"] == 3).all() for pair in zip(slots, placed, strict=True))


def test_a_slot_is_free_once_nobody_refers_to_an_array_in_it():
    shared = SharedSlots(1, 64)
    slot = shared.take()
    found = shared.taken(slot, call_into(slot, arrays, "a", 2))
    part = found["a"][1:]
    assert shared.take() is None
    del found
    assert shared.take() is None and part.tolist() == [[2, 2]] * 3
    del part
    assert shared.take() == slot
    assert shared.taken(slot, call_into(slot, text, "no arrays")) == "no arrays"
    assert shared.take() == slot


def test_what_does_not_fit_or_cannot_be_shared_returns_by_itself():
    slot = SharedSlots(1, 16).take()
    assert call_into(slot, text, "a") == "a"
    assert call_into(slot, arrays, "a", 1)["a"].tolist() == [[1] * 2] * 4
    closed = Slot(slot.memory._replace(descriptor=10**6), 0, 64)
    assert call_into(closed, arrays, "a", 1)["a"].tolist() == [[1] * 2] * 4


def test_results_are_the_same_with_and_without_shared_memory(monkeypatch):
    calls = [(f"{i}", i, 1 + i % 3) for i in range(12)]
    found = {}
    for possible in (True, False):
        if not possible:
            monkeypatch.setattr(os, "ftruncate", refuse)
            assert shared_slots(1, 64) is None
        with DecodingPool(2) as pool:  # while all are kept, slots run out; and other memory afterwards
            found[possible] = [result for _ in range(2) for result in list(pool.map_ahead(arrays, calls, 3))]
    for one, other in zip(found[True], found[False], strict=True):
        assert one.keys() == other.keys()
        assert all(np.array_equal(one[name], other[name]) for name in one)


def test_memory_is_returned_when_nobody_refers_to_it():
    descriptor = SharedSlots(1, 16).take().memory.descriptor
    memory = (again := SharedSlots(1, 16)).take().memory
    assert memory.descriptor == descriptor, "it was closed"
    assert shared_arrays._opened(memory).size() == 16 and again
