import numpy as np
import pytest
import torch

from mobilevideogpt.video.pixels import CONTEXT_MEAN, CONTEXT_STD, context_pixels, video_pixels


def test_missing_frames_are_zero_at_the_end():
    frames = np.full((3, 40, 60, 3), 255, np.uint8)
    for pixels in (video_pixels(frames), context_pixels(frames)):
        assert pixels.shape == (16, 3, 224, 224) and pixels.dtype == torch.float32
        assert (pixels[:3] > 1).all() and not pixels[3:].any()


def test_video_frames_are_squeezed_and_context_frames_cropped():
    frame = np.zeros((1, 100, 300, 3), np.uint8)
    frame[:, :, :60] = 255  # a white stripe at the left fifth
    assert video_pixels(frame)[0, 0, :, :40].min() > 2  # still there
    black = torch.tensor([-m / s for m, s in zip(CONTEXT_MEAN, CONTEXT_STD, strict=True)])
    assert torch.allclose(context_pixels(frame)[0], black[:, None, None].expand(3, 224, 224))  # cut off


@pytest.mark.parametrize("size", [(224, 224), (90, 160), (161, 93), (7, 5)])
def test_any_shape_of_frame_gives_a_square(size):
    frames = np.random.default_rng(0).integers(0, 256, (2, *size, 3), dtype=np.uint8)
    assert video_pixels(frames, 2).shape == context_pixels(frames, 2).shape == (2, 3, 224, 224)


def test_more_frames_than_the_model_takes_are_refused():
    with pytest.raises(ValueError, match="17 frames"):
        video_pixels(np.zeros((17, 8, 8, 3), np.uint8))
