"""Near-duplicates across splits, found by the perceptual hashes of the clips' frames."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from mobilevideogpt.video.frame_hashes import MIRROR

# Measured, in bits of 63: re-encoded, scaled, darkened, cut and mirrored copies differ by 0 to 3; some that were cut
# between the hashed frames of a fast movement by up to 6; different clips of the sample, all in one style, by 11 or
# more. A person who repeats a movement in one room, at the same pace, may come close to a copy.
MAX_DISTANCE = 4.0  # bits a frame, on average
MIN_FRAMES = 4  # that two clips have to share
BANDS = 3  # a hash is looked up by each third of its bits
BUCKET_BITS = 22  # buckets, as a power of two
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # spreads values over the buckets (Fibonacci hashing, Knuth 6.4)
ENTRY = (1 << 40) - 1
NEIGHBOURS = 50  # entries of a bucket that a clip is compared with; more copies of one clip form a chain
MATCHES = 100  # of a clip, on average, after which a band ends: that many copies are enough
MAX_PAIRS = 50_000  # that are compared


class _Hashes(NamedTuple):
    """The hashes of a clip ``(n,)``, and when each frame is shown, in seconds ``(n,)``."""

    values: np.ndarray
    times: np.ndarray


def hashes_of(clip_checks: Iterable[Mapping]) -> dict[str, dict]:
    """Pick from clip checks what `near_duplicates` reads: the ``hashes``, and the ``seconds`` between them."""
    return {
        check["video"]: {"seconds": check["hash_seconds"], "hashes": check["hashes"]}
        for check in clip_checks
        if check["hashes"]
    }


def near_duplicates(
    hashes: Mapping[str, Mapping], splits: Mapping[str, str], max_distance: float = MAX_DISTANCE
) -> list[dict]:
    """Find pairs of clips in different splits that are near-duplicates: mirrored or not, whole or in part.

    Two clips are compared at each offset in time at which they share half of the shorter one. At most `MAX_PAIRS` pairs
    are compared.

    Args:
        hashes: Of each clip, see `hashes_of`.
        splits: The split of each clip; other clips are ignored.
        max_distance: Mean number of bits in which the frames may differ.

    Returns:
        ``clips``, ``splits`` (in the same order), ``distance`` (bits) and ``mirrored`` each, nearest first.
    """
    clips = sorted(clip for clip in splits if clip in hashes)
    if not clips:
        return []
    hashed = [_known_hashes(hashes[clip]) for clip in clips]
    owners = np.repeat(np.arange(len(clips)), [len(of_clip.values) for of_clip in hashed])
    names = sorted(set(splits.values()))
    sides = np.array([names.index(splits[clip]) for clip in clips])
    pairs = []
    for first, second, mirrored in _candidates(np.concatenate([h.values for h in hashed]), owners, sides):
        other = hashed[second]
        if mirrored:
            other = _Hashes(other.values ^ MIRROR, other.times)
        distance = _distance(hashed[first], other)
        if distance <= max_distance:
            both = [clips[first], clips[second]]
            pairs.append(
                {
                    "clips": both,
                    "splits": [splits[clip] for clip in both],
                    "distance": round(distance, 2),
                    "mirrored": bool(mirrored),
                }
            )
    return sorted(pairs, key=lambda pair: (pair["distance"], pair["clips"], pair["mirrored"]))


def _known_hashes(entry: Mapping) -> _Hashes:
    """Return the hashes of a clip without the frames that have none."""
    seconds = entry["seconds"] or 1.0
    known = [(number * seconds, int(text, 16)) for number, text in enumerate(entry["hashes"]) if text is not None]
    return _Hashes(np.array([value for _, value in known], np.uint64), np.array([time for time, _ in known]))


def describe(pairs: Sequence[Mapping], limit: int = 3) -> str:
    """Say in a sentence what was found, and how to fix it."""
    if not pairs:
        return "no near-duplicates across splits"
    shown = (f"{a} ({x}) and {b} ({y})" for (a, b), (x, y) in ((p["clips"], p["splits"]) for p in pairs[:limit]))
    return (
        f"{len(pairs)} pair{'s' * (len(pairs) > 1)} of clips look like near-duplicates in two splits: "
        f"{', '.join(shown)}{', ...' if len(pairs) > limit else ''}; "
        "put both in one split in splits.csv, or list one in dataset.exclude"
    )


def _candidates(values: np.ndarray, owners: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """Return pairs of clips in different splits that share a band of a hash more than once.

    Of more than `MAX_PAIRS`, return those that share most.

    Args:
        values: Hashes ``(n,)``.
        owners: Number of the clip of each hash ``(n,)``.
        sides: Number of the split of each clip.

    Returns:
        First clip, second clip, and whether the second is mirrored, ``(pairs, 3)``, sorted.
    """
    entries = np.concatenate([owners * 2, owners * 2 + 1])  # unmirrored and mirrored
    both = np.concatenate([values, values ^ MIRROR])
    found = []
    for band in range(BANDS):
        mask = np.uint64(sum(1 << bit for bit in range(band, 64, BANDS)))
        bucket = ((both & mask) * MULTIPLIER >> np.uint64(64 - BUCKET_BITS)).astype(np.int64)
        bucketed = np.sort(bucket << 40 | entries)  # NumPy's unique() is many times slower
        bucketed = bucketed[np.diff(bucketed, prepend=-1) > 0]  # each clip once in a bucket
        bucket, entry = (bucketed >> 40).astype(np.int32), bucketed & ENTRY
        at, of_band = np.arange(len(bucketed)), 0
        for step in range(1, NEIGHBOURS + 1):
            at = at[: np.searchsorted(at, len(bucketed) - step)]
            at = at[bucket[at] == bucket[at + step]]
            if not len(at) or of_band > MATCHES * len(sides):
                break
            a, b = entry[at], entry[at + step]
            # a mirrored first clip is found again as a mirrored second one
            wanted = (a & 1 == 0) & (sides[a >> 1] != sides[b >> 1])
            found.append((a[wanted] >> 1) << 25 | b[wanted])
            of_band += len(found[-1])
    pairs, counts = np.unique(np.concatenate(found) if found else np.zeros(0, int), return_counts=True)
    most = np.argsort(-counts, kind="stable")[:MAX_PAIRS]
    pairs = np.sort(pairs[most[counts[most] > 1]])
    return np.stack([pairs >> 25, pairs >> 1 & (1 << 24) - 1, pairs & 1], axis=1)


def _distance(a: _Hashes, b: _Hashes) -> float:
    """Return the mean bits in which frames at equal times differ, at the best offset; infinite if there is none."""
    if min(len(a.values), len(b.values)) < MIN_FRAMES:
        return np.inf
    steps = [np.diff(clip.times).min() for clip in (a, b)]
    bits = np.bitwise_count(a.values[:, None] ^ b.values[None])  # (n, m)
    offsets = np.rint((b.times[None] - a.times[:, None]) / min(steps)).astype(int)
    offsets -= offsets.min()
    compared = np.bincount(offsets.ravel())
    half = min(clip.times[-1] - clip.times[0] for clip in (a, b)) / max(steps) / 2  # of the shorter clip, in frames
    enough = compared >= max(MIN_FRAMES, half)
    total = np.bincount(offsets.ravel(), bits.ravel())
    return float((total[enough] / compared[enough]).min(initial=np.inf))
