import cv2
import numpy as np
import pytest
from PIL import Image

from mobilevideogpt.video.resampling import bicubic_part

SIZES = [(480, 640), (640, 480), (1080, 1920), (224, 224), (225, 226), (300, 224), (161, 93), (7, 5), (1, 1), (3, 2000)]


def through_pillow(frame, width, height, left, top, side):
    # In two steps, since Pillow 13 resizes the height of tall frames first.
    wide = Image.fromarray(frame).resize((width, frame.shape[0]), Image.Resampling.BICUBIC)
    resized = wide.resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(resized.crop((left, top, left + side, top + side)))


@pytest.mark.parametrize("size", SIZES)
def test_a_part_equals_pillows_to_the_bit(size):
    random = np.random.default_rng(size[0])
    height, width = size
    short = min(size)
    wanted = (224 * width // short, 224 * height // short)
    square = ((wanted[0] - 224) // 2, (wanted[1] - 224) // 2, 224)
    smooth = cv2.GaussianBlur(random.integers(0, 256, (*size, 3), dtype=np.uint8), (0, 0), 3)
    black_and_white = random.integers(0, 2, (*size, 3), dtype=np.uint8) * 255  # sums leave the range of 8 bits
    for frame in (smooth, black_and_white):
        assert np.array_equal(bicubic_part(frame, *wanted, *square), through_pillow(frame, *wanted, *square))


def test_any_part_at_any_scale_equals_pillows():
    random = np.random.default_rng(0)
    for _ in range(60):
        height, width = (int(n) for n in random.integers(1, 90, 2))
        side = int(random.integers(1, 40))
        wanted = [int(side + random.integers(0, 60)) for _ in range(2)]
        left, top = (int(random.integers(0, length - side + 1)) for length in wanted)
        frame = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        found = bicubic_part(frame, *wanted, left, top, side)
        assert np.array_equal(found, through_pillow(frame, *wanted, left, top, side)), (width, height, wanted)


def test_a_frame_that_is_a_view_is_read_as_it_is_shown():
    frame = np.random.default_rng(1).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    view = frame[::-1, 4:70]
    assert np.array_equal(bicubic_part(view, 50, 40, 3, 2, 30), through_pillow(view.copy(), 50, 40, 3, 2, 30))
