import pytest
import torch
import torch.nn.functional as F

from mobilevideogpt.model.videomamba import Convolution


def expected_of(conv1d, x):
    """By PyTorch, in the precision of ``x``."""
    weight, bias = conv1d.weight.to(x.dtype), conv1d.bias.to(x.dtype)
    return F.silu(F.conv1d(F.pad(x.mT, (3, 0)), weight, bias, groups=len(weight))).mT


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shape", [(1, 1, 6), (2, 3, 65), (3, 50, 200)])
def test_the_compiled_convolution_of_a_cpu_is_pytorchs(shape, dtype):
    conv1d = Convolution(shape[2], 4).to(dtype)
    x = torch.randn(*shape[:2], 2 * shape[2], generator=torch.manual_seed(0)).to(dtype).chunk(2, dim=-1)[1]
    with torch.no_grad():
        found = conv1d(x)
    assert not found.requires_grad
    assert found.dtype == dtype
    expected = expected_of(conv1d, x.double())
    rounding = 2 * torch.finfo(dtype).eps
    torch.testing.assert_close(found.double(), expected, atol=rounding, rtol=rounding)


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("shape", [(1, 1, 6), (2, 3, 65), (3, 51, 200)])
def test_the_convolution_in_reverse_is_that_of_the_flipped_sequence(shape, grad):
    conv1d = Convolution(shape[2], 4)
    x = torch.randn(*shape, generator=torch.manual_seed(0))
    with torch.set_grad_enabled(grad):
        torch.testing.assert_close(conv1d(x, reverse=True), conv1d(x.flip(1)).flip(1))


def test_the_convolution_has_a_gradient_where_one_is_wanted():
    conv1d = Convolution(6, 4)
    conv1d(torch.randn(2, 9, 6)).sum().backward()
    assert conv1d.weight.grad.abs().sum() > 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("shape", [(1, 1, 8), (3, 50, 200), (2, 1569, 1152)])
def test_the_triton_convolution_is_pytorchs(shape, reverse, dtype):
    conv1d = Convolution(shape[2], 4).cuda().to(dtype)
    x = torch.randn(*shape[:2], 2 * shape[2], generator=torch.manual_seed(0)).cuda().to(dtype).chunk(2, dim=-1)[1]
    with torch.no_grad():
        found = conv1d(x, reverse)
        x = x.double().flip(1) if reverse else x.double()
        expected = expected_of(conv1d, x)
        expected = expected.flip(1) if reverse else expected
    assert found.dtype == dtype
    rounding = torch.finfo(dtype).eps
    torch.testing.assert_close(found.double(), expected, atol=2 * rounding, rtol=2 * rounding)
