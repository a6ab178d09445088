import numpy as np
import pytest
import torch

from mobilevideogpt.video.frames import encoder_frames
from mobilevideogpt.video.pixels import CONTEXT_MEAN, CONTEXT_STD, standardise


def pixels_of(frames, num_frames=16):
    pixels = standardise([encoder_frames(frames)], num_frames)
    return pixels["pixel_values_videos"][0], pixels["pixel_values_context"][0]


def test_missing_frames_are_zero_at_the_end():
    frames = np.full((3, 40, 60, 3), 255, np.uint8)
    for pixels in pixels_of(frames):
        assert pixels.shape == (16, 3, 224, 224) and pixels.dtype == torch.float32
        assert (pixels[:3] > 1).all() and not pixels[3:].any()


def test_video_frames_are_resized_and_context_frames_cropped():
    frame = np.zeros((1, 100, 300, 3), np.uint8)
    frame[:, :, :60] = 255  # a white stripe at the left fifth
    video, context = pixels_of(frame)
    assert video[0, 0, :, :40].min() > 2  # still there
    black = torch.tensor([-m / s for m, s in zip(CONTEXT_MEAN, CONTEXT_STD, strict=True)])
    assert torch.allclose(context[0], black[:, None, None].expand(3, 224, 224))  # cut off


@pytest.mark.parametrize("size", [(224, 224), (90, 160), (161, 93), (7, 5)])
def test_any_shape_of_frame_gives_a_square(size):
    frames = np.random.default_rng(0).integers(0, 256, (2, *size, 3), dtype=np.uint8)
    assert [pixels.shape for pixels in pixels_of(frames, 2)] == [(2, 3, 224, 224)] * 2


def test_more_frames_than_the_model_takes_are_refused():
    with pytest.raises(ValueError, match="17 frames"):
        pixels_of(np.zeros((17, 8, 8, 3), np.uint8))


def test_clips_of_a_batch_do_not_change_each_other():
    rng = np.random.default_rng(0)
    clips = [encoder_frames(rng.integers(0, 256, (count, 40, 60, 3), dtype=np.uint8)) for count in (2, 1)]
    together = standardise(clips, 3)
    for i, clip in enumerate(clips):
        for name, pixels in standardise([clip], 3).items():
            assert torch.equal(together[name][i], pixels[0])
