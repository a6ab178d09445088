import pytest
import torch

from mobilevideogpt.model import modeling
from mobilevideogpt.model.precision import float32_products
from tests.tiny import tiny_config


def flags():
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


@pytest.fixture
def model():
    torch.manual_seed(0)
    ids = {"bos_token_id": 1, "eos_token_id": 2, "video_token_id": 3}
    return modeling.MobileVideoGPTForConditionalGeneration(tiny_config(vocab_size=32, **ids)).eval()


def encode(model):
    side, frames = model.config.image_size, model.config.num_frames
    pixels = torch.randn(2, 1, frames, 3, side, side, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return model.encode_video(*pixels, output_scores=True)


@pytest.mark.parametrize("tf32", [True, False])
def test_products_have_the_precision_inside_alone_even_after_an_error(tf32):
    before = flags()
    with pytest.raises(KeyError), float32_products("cuda", tf32):
        assert flags() == (tf32, tf32)
        raise KeyError
    assert flags() == before
    with float32_products("cpu", not before[0]):
        assert flags() == before


@pytest.mark.parametrize(("precision", "tf32"), [("auto", True), ("tf32", True), ("fp32", False), ("bf16", False)])
def test_encoders_have_the_chosen_precision_and_scores_full_products(precision, tf32, model, monkeypatch):
    asked = []

    def products(device_type, tf32):
        asked.append(tf32)
        return float32_products(device_type, tf32)

    monkeypatch.setattr(modeling, "float32_products", products)
    expected = encode(model)
    asked.clear()
    model.set_encoder_precision(precision)
    found = encode(model)
    assert asked == [tf32, False]
    if precision == "bf16":
        assert found[1].dtype == torch.bfloat16 and found[2].dtype == torch.float32
        assert 0 < (found[1].float() - expected[1]).norm() < 0.05 * expected[1].norm()
    else:
        assert all(map(torch.equal, found, expected)), "a CPU computes in float32"


def test_an_unknown_precision_is_an_error(model):
    with pytest.raises(ValueError, match="auto, tf32, fp32, bf16"):
        model.set_encoder_precision("fp8")
