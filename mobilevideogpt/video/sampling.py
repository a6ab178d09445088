"""The frames of a clip that the model receives (Mobile-VideoGPT, arXiv:2503.21782): one a second, within bounds."""

from collections.abc import Sequence

NUM_FRAMES = 16  # of a clip; a test keeps it equal to MobileVideoGPTConfig.num_frames, which this room must not import


def frame_indices(num_frames: int, fps: float, min_frames: int = NUM_FRAMES, max_frames: int = NUM_FRAMES) -> list[int]:
    """Return the positions of the frames to decode, ascending.

    A clip of more than ``max_frames`` seconds is thinned evenly. A clip of fewer than ``min_frames`` seconds is sampled
    more densely, at equal steps from its start. It gives fewer than ``min_frames`` only if it has fewer.

    Args:
        num_frames: Frames of the clip.
        fps: Frames a second; at most 0.5, or unknown (0), counts as 1.
        min_frames: The released model was trained with 8 and evaluated with 16.
        max_frames: Frames that the model takes.

    Raises:
        ValueError: If the clip has no frame, or the bounds are out of order.
    """
    if num_frames < 1 or not 1 <= min_frames <= max_frames:
        raise ValueError(f"cannot take {min_frames} to {max_frames} frames of {num_frames}")
    grid = range(0, num_frames, max(1, round(fps)))
    if len(grid) > max_frames:
        return [grid[i * (len(grid) - 1) // max(1, max_frames - 1)] for i in range(max_frames)]
    if len(grid) < min_frames:
        count = min(min_frames, num_frames)
        step = max(1, (num_frames - 1) // max(1, count - 1))
        return [i * step for i in range(count)]
    return list(grid)


def seen_share(times: Sequence[float], positions: Sequence[int]) -> float:
    """Return the share of a clip's time that is seen in the frames at ``positions``.

    A frame stands for the time until the next one, but for no more than its part of the clip, and no more than the
    second that the model expects between frames.

    Args:
        times: When each frame of the clip is shown, seconds, ascending.
        positions: As `frame_indices` returns them.
    """
    if len(positions) == len(times):
        return 1.0
    end = times[-1] + (times[-1] - times[0]) / (len(times) - 1)
    seconds = end - times[0]
    most = min(1.0, seconds / len(positions))
    starts = [times[position] for position in positions]
    return sum(min(most, after - start) for start, after in zip(starts, [*starts[1:], end], strict=True)) / seconds
