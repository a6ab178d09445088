"""Which frames of a clip are looked at (Mobile-VideoGPT, arXiv:2503.21782): one a second, within bounds."""


def frame_indices(num_frames: int, fps: float, min_frames: int = 16, max_frames: int = 16) -> list[int]:
    """Positions of the frames to decode, ascending.

    A clip of more than ``max_frames`` seconds is thinned evenly; one of fewer than ``min_frames`` seconds is sampled
    more densely, at equal steps from its start, and gives fewer only if it has fewer.

    Args:
        num_frames: Frames in the clip.
        fps: Its frames a second; at most 0.5, or unknown (0), counts as 1.
        min_frames: The released model was trained with 8 and asked with 16.
        max_frames: What the model takes at most.

    Raises:
        ValueError: If there is no frame, or the bounds are not in order.
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
