"""Clips that show the same take in different splits, found by the perceptual hashes of their frames."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from mobilevideogpt.video.frame_hashes import MIRROR

# Measured: copies encoded anew, scaled, darkened, cut or mirrored lie at 0 to 3 bits of 63, some that were cut between
# the hashed frames of a fast movement at up to 6; different clips of the sample, all in one style, at 11 and more. One
# person who repeats a movement in one room, at the same pace, may come near to a copy.
MAX_DISTANCE = 4.0  # bits a frame, on average
MIN_FRAMES = 4  # compared
BANDS = 3  # a hash is looked up by each third of its bits
BUCKET_BITS = 22  # buckets, as a power of two
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # spreads over the buckets (Fibonacci hashing, Knuth 6.4)
ENTRY = (1 << 40) - 1
NEIGHBOURS = 50  # that a clip is compared with among those that look alike; so many copies of one are a chain
MATCHES = 100  # of a clip's frames, on average, after which a band is left: so many copies tell enough
MOST_PAIRS = 50_000  # compared; of more, those with most in common


def hashes_of(records: Iterable[Mapping]) -> dict[str, dict]:
    """Pick from integrity records what `near_duplicates` reads: ``seconds`` between hashes, and the ``hashes``."""
    return {
        record["video"]: {"seconds": record["hash_seconds"], "hashes": record["hashes"]}
        for record in records
        if record["hashes"]
    }


def near_duplicates(
    hashes: Mapping[str, Mapping], splits: Mapping[str, str], max_distance: float = MAX_DISTANCE
) -> list[dict]:
    """Find pairs of clips in different splits that show the same take, mirrored or not, whole or in part.

    Two clips are compared at each offset in time at which they have half of the shorter one in common. No more than
    `MOST_PAIRS` are.

    Args:
        hashes: Of each clip, see `hashes_of`.
        splits: Clip to its split; others are not looked at.
        max_distance: Bits that the frames may differ in, on average.

    Returns:
        ``clips``, ``splits`` (in the same order), ``distance`` (bits) and ``mirrored`` each, nearest first.
    """
    clips = sorted(clip for clip in splits if clip in hashes)
    values, times, owners = [], [], []
    for number, clip in enumerate(clips):
        seconds = hashes[clip]["seconds"] or 1.0
        found = [(i * seconds, int(text, 16)) for i, text in enumerate(hashes[clip]["hashes"]) if text is not None]
        times.append(np.array([time for time, _ in found]))
        values.append(np.array([value for _, value in found], np.uint64))
        owners.append(np.full(len(found), number))
    if not clips:
        return []
    names = sorted(set(splits.values()))
    sides = np.array([names.index(splits[clip]) for clip in clips])
    pairs = []
    for first, second, mirrored in _candidates(np.concatenate(values), np.concatenate(owners), sides):
        other = values[second] ^ MIRROR if mirrored else values[second]
        distance = _distance(values[first], times[first], other, times[second])
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


def describe(pairs: Sequence[Mapping], limit: int = 3) -> str:
    """Say what was found, and what to do about it."""
    if not pairs:
        return "no take is in two splits"
    shown = (f"{a} ({x}) and {b} ({y})" for (a, b), (x, y) in ((p["clips"], p["splits"]) for p in pairs[:limit]))
    return (
        f"{len(pairs)} pair{'s' * (len(pairs) > 1)} of clips look like one take in two splits: "
        f"{', '.join(shown)}{', ...' if len(pairs) > limit else ''}; "
        "settle both in one split in splits.csv, or list one in dataset.exclude"
    )


def _candidates(values: np.ndarray, owners: np.ndarray, sides: np.ndarray) -> np.ndarray:
    """Pairs of clips on different sides whose frames have a third of their bits in common, more than once.

    Of more than `MOST_PAIRS`, those with most in common.

    Args:
        values: Hashes ``(n,)``.
        owners: The clip that each is of ``(n,)``.
        sides: The split of each clip.

    Returns:
        First clip, second clip and whether that one is mirrored, ``(pairs, 3)``, sorted.
    """
    entries = np.concatenate([owners * 2, owners * 2 + 1])  # as it is, and mirrored
    both = np.concatenate([values, values ^ MIRROR])
    found = []
    for band in range(BANDS):
        mask = np.uint64(sum(1 << bit for bit in range(band, 64, BANDS)))
        bucket = ((both & mask) * MULTIPLIER >> np.uint64(64 - BUCKET_BITS)).astype(np.int64)
        bucketed = np.sort(bucket << 40 | entries)  # NumPy's own unique() takes many times as long
        bucketed = bucketed[np.diff(bucketed, prepend=-1) > 0]  # once a clip and bucket
        bucket, entry = (bucketed >> 40).astype(np.int32), bucketed & ENTRY
        at, of_band = np.arange(len(bucketed)), 0
        for step in range(1, NEIGHBOURS + 1):
            at = at[: np.searchsorted(at, len(bucketed) - step)]
            at = at[bucket[at] == bucket[at + step]]
            if not len(at) or of_band > MATCHES * len(sides):
                break
            a, b = entry[at], entry[at + step]
            # what the mirrored first clip has in common is found from the other side, too
            wanted = (a & 1 == 0) & (sides[a >> 1] != sides[b >> 1])
            found.append((a[wanted] >> 1) << 25 | b[wanted])
            of_band += len(found[-1])
    pairs, counts = np.unique(np.concatenate(found) if found else np.zeros(0, int), return_counts=True)
    most = np.argsort(-counts, kind="stable")[:MOST_PAIRS]
    pairs = np.sort(pairs[most[counts[most] > 1]])
    return np.stack([pairs >> 25, pairs >> 1 & (1 << 24) - 1, pairs & 1], axis=1)


def _distance(a: np.ndarray, a_times: np.ndarray, b: np.ndarray, b_times: np.ndarray) -> float:
    """Mean bits in which frames at equal times differ, at the offset where that is least; infinite without any.

    Args:
        a: Hashes of one clip ``(n,)``.
        a_times: When they are shown, in seconds ``(n,)``.
        b: Hashes of the other ``(m,)``.
        b_times: When they are shown.
    """
    if min(len(a), len(b)) < MIN_FRAMES:
        return np.inf
    steps = [np.diff(times).min() for times in (a_times, b_times)]
    bits = np.bitwise_count(a[:, None] ^ b[None])  # (n, m)
    offsets = np.rint((b_times[None] - a_times[:, None]) / min(steps)).astype(int)
    offsets -= offsets.min()
    compared = np.bincount(offsets.ravel())
    common = min(times[-1] - times[0] for times in (a_times, b_times)) / max(steps) / 2
    enough = compared >= max(MIN_FRAMES, common)
    total = np.bincount(offsets.ravel(), bits.ravel())
    return float((total[enough] / compared[enough]).min(initial=np.inf))
