import pytest

from mobilevideogpt.video.sampling import frame_indices, seen_share


@pytest.mark.parametrize(
    ("num_frames", "fps", "expected"),
    [
        (150, 30, [*range(0, 144, 9)]),  # five seconds: at equal steps, instead of five frames
        (480, 30, [*range(0, 480, 30)]),  # sixteen seconds: one frame a second
        (17, 1, [*range(15), 16]),  # seventeen: thinned, first and last kept
        (20, 25, [*range(16)]),
        (7, 10, [*range(7)]),  # as many as there are
        (1, 30, [0]),
        (100, 0.4, [0, 6, 13, 19, 26, 33, 39, 46, 52, 59, 66, 72, 79, 85, 92, 99]),
    ],
)
def test_frames_are_a_second_apart_within_bounds(num_frames, fps, expected):
    assert frame_indices(num_frames, fps) == expected


@pytest.mark.parametrize("fps", [0.0, 0.5, 1.0, 23.976, 29.97, 59.94, 240.0])
@pytest.mark.parametrize("bounds", [(1, 1), (8, 16), (16, 16)])
def test_positions_exist_and_ascend(fps, bounds):
    for num_frames in [*range(1, 70), 1000, 12345]:
        positions = frame_indices(num_frames, fps, *bounds)
        assert positions == sorted(set(positions))
        assert positions[0] == 0 and positions[-1] < num_frames
        assert min(bounds[0], num_frames) <= len(positions) <= bounds[1]


@pytest.mark.parametrize("arguments", [(0, 30), (10, 30, 9, 8), (10, 30, 0, 8)])
def test_no_frames_or_crossed_bounds_are_refused(arguments):
    with pytest.raises(ValueError, match="cannot take"):
        frame_indices(*arguments)


@pytest.mark.parametrize(
    ("times", "positions", "share"),
    [
        ([0, 1, 2, 3], [0, 1, 2, 3], 1),
        ([i / 10 for i in range(100)], range(0, 100, 10), 1),  # a second apart
        (range(100), range(0, 100, 10), 0.1),  # ten seconds apart
        ([i / 10 for i in range(20)], range(10), 11 / 20),  # the first half, and the tenth frame stands for two
        ([0, 1, 10, 11], [0, 1], 2 / (11 + 11 / 3)),
    ],
)
def test_a_frame_stands_for_its_part_of_the_clip_or_a_second(times, positions, share):
    assert seen_share(times, positions) == pytest.approx(share)
