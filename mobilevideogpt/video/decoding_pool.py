"""Processes that decode clips ahead of their use. The child's part is `decoding_pool_worker`.

Threads would hold Python's lock so often that the encoders' kernels were launched five times as slowly.
"""

import logging
import os
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice

from loky import ProcessPoolExecutor
from loky.process_executor import TerminatedWorkerError

from mobilevideogpt.errors import InputError
from mobilevideogpt.video.decoding_pool_worker import start_decoding_worker
from mobilevideogpt.video.shared_arrays import call_into, shared_slots

log = logging.getLogger(__name__)
READ_SECONDS = 600  # ten times as long as the clip check gives a clip by default; only a hanging decoder takes longer
SLOT_BYTES = 2**24  # 55 frames of 224 x 224 for both encoders; more return through a pipe, at a third of the speed


class DecodingPool(ProcessPoolExecutor):
    """Worker processes that decode; they are killed at the end of the ``with`` block.

    Raises:
        InputError: If the system has no semaphores, which are files in /dev/shm on Linux.
    """

    def __init__(self, workers: int):
        try:
            super().__init__(workers, initializer=start_decoding_worker, initargs=(os.getpid(),))
        except OSError as error:
            raise InputError(
                f"processes that decode clips cannot start ({error.strerror}); make /dev/shm writable, or free "
                "some of it"
            ) from error

    def __exit__(self, *_):
        self.shutdown(kill_workers=True)

    def map_ahead(self, function: Callable, arguments: list[tuple], depth: int) -> Iterator:
        """Return ``function(*arguments)`` in order; workers begin at once and compute up to ``depth`` results ahead.

        Args:
            function: Picklable; runs in the workers.
            arguments: Those of each call; the first is the clip's path.
            depth: How many results are computed ahead.

        Raises:
            InputError: If a worker is killed, or a clip is not read within `READ_SECONDS`.
        """
        remaining, waiting = iter(arguments), deque()
        depth = min(depth, len(arguments))
        # Results in use have a slot, too: two batches of each GPU. Where that is not enough, a pipe carries them.
        shared = shared_slots(4 * depth, SLOT_BYTES)

        def submit() -> None:
            for next_ in islice(remaining, depth - len(waiting)):
                slot = shared.take() if shared else None
                call = (call_into, slot, function) if slot else (function,)
                waiting.append((next_[0], slot, self.submit(*call, *next_)))

        submit()

        def results():
            while waiting:
                path, slot, future = waiting.popleft()
                try:
                    result = future.result(READ_SECONDS)
                except TimeoutError:
                    raise InputError(
                        f"{path}: was not read within {READ_SECONDS} s; completed features are kept. Re-encode it, "
                        "or list it in dataset.exclude"
                    ) from None
                except TerminatedWorkerError as error:
                    log.info("%s", error)
                    raise InputError(
                        "a process that decodes clips was killed, most likely because memory ran out; completed "
                        "features are kept. Run the same command again, with a lower --cores to save memory"
                    ) from None
                if shared and slot:
                    result = shared.taken(slot, result)
                submit()
                yield result

        return results()
