from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from mobilevideogpt.data.device_encoder import DeviceEncoder
from mobilevideogpt.data.encoding import encode
from mobilevideogpt.model.modeling import MobileVideoGPTForConditionalGeneration
from mobilevideogpt.video.pixels import standardise
from tests.tiny import tiny_config

cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


def batches(count, size):
    generator = np.random.default_rng(0)
    names = "pixel_values_videos", "pixel_values_context"
    frames = generator.integers(0, 256, (count, size, 2, 16, 224, 224, 3), np.uint8)
    return [[dict(zip(names, clip, strict=True)) for clip in batch] for batch in frames]


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=cuda)])
def test_batches_that_are_encoded_at_the_same_time_have_the_features_of_each(device):
    torch.manual_seed(0)
    model = MobileVideoGPTForConditionalGeneration(tiny_config()).eval()
    encoder = DeviceEncoder(model, device, 2, torch.float16)
    given = batches(6, 2)
    expected = [encode(model, standardise(batch, 16, device), torch.float16) for batch in given]
    with ThreadPoolExecutor(encoder.threads) as threads:
        found = list(threads.map(encoder.encode, given))
    for batch, features in zip(found, expected, strict=True):
        for number, clip in enumerate(batch):
            assert clip is not None and clip.keys() == features.keys()
            assert all(torch.equal(tensor, features[name][number].cpu()) for name, tensor in clip.items())
            assert all(tensor.device.type == "cpu" for tensor in clip.values())
