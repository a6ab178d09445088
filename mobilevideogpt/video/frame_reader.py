"""The frames of a clip that the model receives, through decord, as in the original code.

The clip check reads them, too, and compares them with those of PyAV. decord applies rotations, but no mirroring.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import decord
import numpy as np
from av.error import FFmpegError

from mobilevideogpt.segments import split_segment
from mobilevideogpt.video.decoding import Packets, count_packets, file_url, require_file, unreadable

FAILURES = (decord.DECORDError, RuntimeError, AssertionError, IndexError)  # of decord
decord.logging.set_level(decord.logging.QUIET)  # what matters is in its exceptions


def model_frames(path: str | Path, min_frames: int, max_frames: int) -> Iterator[np.ndarray]:
    """Yield the frames that `frame_indices` chooses, one at a time: RGB ``(H, W, 3)`` uint8.

    Args:
        path: The clip: a file or a segment of one.
        min_frames: See `mobilevideogpt.video.sampling.frame_indices`.
        max_frames: Likewise.

    Raises:
        InputError: If the file is missing, is not a video or does not decode at these positions.
    """
    require_file(path)
    file, segment = split_segment(path)
    try:
        packets = count_packets(file)
        yield from frames_at(file, packets.positions(segment, min_frames, max_frames), packets)
    except (FFmpegError, ValueError, MemoryError) as error:
        raise unreadable(path, error) from None


def frames_at(path: str | Path, positions: Sequence[int], packets: Packets) -> Iterator[np.ndarray]:
    """Yield the shown frames at ``positions``, which ascend.

    Args:
        path: A clip whose packets were counted, which refuses what is not a video in one file.
        positions: Numbers of shown frames.
        packets: Result of `count_packets`.

    Raises:
        ValueError: If decord does not read a frame.
    """
    try:
        reader = decord.VideoReader(file_url(path), num_threads=1)
        following = 0
        for position in positions:
            if packets.seekable:
                frame = reader[position].asnumpy()
            else:
                for _ in range(following, position + 1):
                    frame = reader.next()
                following, frame = position + 1, frame.asnumpy()
            height, width, _ = frame.shape
            # Rows of narrow frames end with padding, which decord takes for more channels.
            yield frame.reshape(height, -1)[:, : 3 * width].reshape(height, width, 3)
    except StopIteration:
        raise ValueError("decord finds no more frames") from None
    except FAILURES as error:
        raise ValueError(f"decord fails: {_first_line(error)}") from None


def _first_line(error: Exception) -> str:
    """Return decord's message without its time, its line of code and the path, so that equal clips have equal ones."""
    line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return re.sub(r"\[[0-9:]+\] \S+:\d+: |\[file:.*?\]", "", line)
