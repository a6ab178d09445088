"""Near-duplicates, found by the perceptual hashes of the clips' frames."""

import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from mobilevideogpt.video.frame_hashes import MIRROR

# Measured, in bits of 63: re-encoded, scaled, darkened, cut and mirrored copies differ by 0 to 3; some that were cut
# between the hashed frames of a fast movement by up to 6; different clips of the sample, all in one style, by 11 or
# more. A person who repeats a movement in one room, at the same pace, may come close to a copy.
MAX_DISTANCE = 4.0  # bits a frame, on average
# Two files are one recording, and the split keeps them together, only if their frames differ by less than this, and by
# less than half as much as the frames of one clip differ from each other. Re-encoded, scaled, darkened and mirrored
# copies differ by 0 to 1, while the frames of a clip differ by 3 to 13. A clip that shows no movement, such as a dark
# room, looks like any other clip of that room, so that it is never joined: it is a near-duplicate at most.
SAME_RECORDING = 2.0  # bits a frame
MIN_VARIATION = 1.0  # bits between two frames of a clip, on average
MIN_FRAMES = 4  # that two clips have to share
BANDS = 3  # a hash is looked up by each third of its bits
BUCKET_BITS = 22  # buckets, as a power of two
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # spreads values over the buckets (Fibonacci hashing, Knuth 6.4)
ENTRY = (1 << 40) - 1
NEIGHBOURS = 50  # entries of a bucket that a clip is compared with; more copies of one clip form a chain
MATCHES = 100  # of a clip, on average, after which a band ends: that many copies are enough
MAX_PAIRS = 50_000  # that are compared

log = logging.getLogger(__name__)


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
    hashes: Mapping[str, Mapping], recordings: Mapping[str, str], max_distance: float = MAX_DISTANCE
) -> list[dict]:
    """Find pairs of clips of different recordings that are near-duplicates: mirrored or not, whole or in part.

    Two clips are compared at each offset in time at which they share half of the shorter one. At most `MAX_PAIRS` pairs
    are compared.

    Args:
        hashes: Of each clip, see `hashes_of`.
        recordings: The recording of each clip as far as it is known; other clips are ignored.
        max_distance: Mean number of bits in which the frames may differ.

    Returns:
        ``clips``, ``distance`` (bits of 63 a frame), ``mirrored``, and ``same_recording``, whether the frames show that
        both clips are one recording; nearest first.
    """
    clips = sorted(clip for clip in recordings if clip in hashes)
    if not clips:
        return []
    hashed = [_known_hashes(hashes[clip]) for clip in clips]
    owners = np.repeat(np.arange(len(clips)), [len(of_clip.values) for of_clip in hashed])
    numbers = {name: number for number, name in enumerate(sorted(set(recordings.values())))}
    sides = np.array([numbers[recordings[clip]] for clip in clips])
    pairs = []
    for first, second, mirrored in _candidates(np.concatenate([h.values for h in hashed]), owners, sides):
        other = hashed[second]
        if mirrored:
            other = _Hashes(other.values ^ MIRROR, other.times)
        distance = _distance(hashed[first], other)
        if distance <= max_distance:
            variation = min(_variation(hashed[first]), _variation(other))
            pairs.append(
                {
                    "clips": [clips[first], clips[second]],
                    "distance": round(distance, 2),
                    "mirrored": bool(mirrored),
                    "same_recording": variation >= MIN_VARIATION and distance < min(SAME_RECORDING, variation / 2),
                }
            )
    return sorted(pairs, key=lambda pair: (pair["distance"], pair["clips"], pair["mirrored"]))


def across_splits(pairs: Iterable[Mapping], splits: Mapping[str, str]) -> list[dict]:
    """Return the pairs of `near_duplicates` that are in different splits, with their ``splits`` in the same order."""
    found = []
    for pair in pairs:
        both = [splits.get(clip) for clip in pair["clips"]]
        if None not in both and both[0] != both[1]:
            found.append({**pair, "splits": both})
    return found


def _variation(clip: _Hashes) -> float:
    """Return the mean bits in which two frames of a clip differ."""
    n = len(clip.values)
    return float(np.bitwise_count(clip.values[:, None] ^ clip.values[None]).sum() / (n * (n - 1)))


def _known_hashes(entry: Mapping) -> _Hashes:
    """Return the hashes of a clip without the frames that have none."""
    seconds = entry["seconds"] or 1.0
    known = [(number * seconds, int(text, 16)) for number, text in enumerate(entry["hashes"]) if text is not None]
    return _Hashes(np.array([value for _, value in known], np.uint64), np.array([time for time, _ in known]))


def describe(pairs: Sequence[Mapping], limit: int = 3) -> str:
    """Say in a sentence what was found, and how to fix it."""
    if not pairs:
        return "no near-duplicates across splits"
    shown = (
        f"{a} ({x}) and {b} ({y}), {pair['distance']:g} bits of 63 apart"
        for pair in pairs[:limit]
        for (a, b), (x, y) in [(pair["clips"], pair["splits"])]
    )
    return (
        f"{len(pairs)} pair{'s' * (len(pairs) > 1)} of clips look like near-duplicates in two splits: "
        f"{'; '.join(shown)}{'; ...' if len(pairs) > limit else ''}; "
        "put both in one split in splits.csv, or list one in dataset.exclude"
    )


def _candidates(values: np.ndarray, owners: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """Return pairs of clips of different recordings that share a band of a hash more than once.

    Of more than `MAX_PAIRS`, return those that share most.

    Args:
        values: Hashes ``(n,)``.
        owners: Number of the clip of each hash ``(n,)``.
        sides: Number of the recording of each clip.

    Returns:
        First clip, second clip, and whether the second is mirrored, ``(pairs, 3)``, sorted.
    """
    entries = np.concatenate([owners * 2, owners * 2 + 1])  # unmirrored and mirrored
    both = np.concatenate([values, values ^ MIRROR])
    found = []
    for band in range(BANDS):
        mask = np.uint64(sum(1 << bit for bit in range(band, 64, BANDS)))
        bucket = ((both & mask) * MULTIPLIER >> np.uint64(64 - BUCKET_BITS)).astype(np.int64)
        bucketed = _sorted_once(bucket << 40 | entries)[0]  # each clip once in a bucket
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
    pairs, counts = _sorted_once(np.concatenate(found) if found else np.zeros(0, int))
    if (n := np.count_nonzero(counts > 1)) > MAX_PAIRS:
        log.info("%d pairs of clips have similar frames; the %d with most in common are compared", n, MAX_PAIRS)
    most = np.argsort(-counts, kind="stable")[:MAX_PAIRS]
    pairs = np.sort(pairs[most[counts[most] > 1]])
    return np.stack([pairs >> 25, pairs >> 1 & (1 << 24) - 1, pairs & 1], axis=1)


def _sorted_once(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return each value once, sorted, and how often it occurs; changes ``values``. NumPy's unique() copies them."""
    values.sort()
    begins = np.ones(len(values), bool)
    np.not_equal(values[1:], values[:-1], out=begins[1:])
    first = np.flatnonzero(begins)
    return values[first], np.diff(first, append=len(values))


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
