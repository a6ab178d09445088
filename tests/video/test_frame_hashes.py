import numpy as np

from mobilevideogpt.video.frame_hashes import MIRROR, frame_hashes


def picture(seed, height=120, width=160):
    """A smooth grey picture, with structure of every direction."""
    y, x = np.mgrid[:height, :width]
    y, x = y / height, x / width
    rng = np.random.default_rng(seed)
    waves = (rng.normal() * np.cos(np.pi * (u * x + v * y) + rng.normal()) for u in range(6) for v in range(6))
    values = sum(waves)
    return np.uint8(30 + 190 * (values - values.min()) / np.ptp(values))


def bits(a, b, flip=0):
    return (int(a, 16) ^ int(b, 16) ^ flip).bit_count()


def test_a_hash_is_the_same_at_another_size_and_brightness_and_another_for_another_picture():
    [large], [small] = frame_hashes([picture(0, 480, 640)]), frame_hashes([picture(0, 90, 120)])
    [dark] = frame_hashes([picture(0) // 2])
    assert bits(large, small) <= 2 and bits(large, dark) <= 2
    distances = [bits(large, other) for other in frame_hashes(picture(seed) for seed in range(1, 20))]
    assert min(distances) > 12


def test_the_hash_of_the_mirrored_picture_follows_from_that_of_the_picture():
    for seed in range(10):
        whole, mirrored = frame_hashes([picture(seed), picture(seed)[:, ::-1]])
        assert bits(whole, mirrored, int(MIRROR)) <= 1 < 10 < bits(whole, mirrored)


def test_a_flat_picture_has_no_hash():
    assert frame_hashes([np.zeros((120, 160), np.uint8), np.full((9, 9), 77, np.uint8)]) == [None, None]


def test_the_smallest_picture_is_no_error():
    assert frame_hashes([np.array([[200]], np.uint8)]) == [None]
