import pytest
import torch
import torch.nn.functional as F

from mobilevideogpt.model.videomamba import conv_silu


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shape", [(1, 1, 6), (2, 3, 65), (3, 50, 200)])
def test_the_compiled_convolution_of_a_cpu_is_pytorchs(shape, dtype):
    conv1d = torch.nn.Conv1d(shape[2], shape[2], 4, groups=shape[2]).to(dtype)
    x = torch.randn(*shape[:2], 2 * shape[2], generator=torch.manual_seed(0)).to(dtype).chunk(2, dim=-1)[1]
    with torch.no_grad():
        found = conv_silu(x, conv1d)
    assert not found.requires_grad
    assert found.dtype == dtype
    expected = F.silu(conv1d.double()(F.pad(x.double().mT, (3, 0)))).mT
    rounding = 2 * torch.finfo(dtype).eps
    torch.testing.assert_close(found.double(), expected, atol=rounding, rtol=rounding)


@pytest.mark.parametrize("grad", [False, True])
@pytest.mark.parametrize("shape", [(1, 1, 6), (2, 3, 65), (3, 51, 200)])
def test_the_convolution_in_reverse_is_that_of_the_flipped_sequence(shape, grad):
    conv1d = torch.nn.Conv1d(shape[2], shape[2], 4, groups=shape[2])
    x = torch.randn(*shape, generator=torch.manual_seed(0))
    with torch.set_grad_enabled(grad):
        torch.testing.assert_close(conv_silu(x, conv1d, reverse=True), conv_silu(x.flip(1), conv1d).flip(1))


def test_the_convolution_has_a_gradient_where_one_is_wanted():
    conv1d = torch.nn.Conv1d(6, 6, 4, groups=6)
    conv_silu(torch.randn(2, 9, 6), conv1d).sum().backward()
    assert conv1d.weight.grad.abs().sum() > 0


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("shape", [(1, 1, 8), (3, 50, 200), (2, 1569, 1152)])
def test_the_triton_convolution_is_pytorchs(shape, reverse, dtype):
    conv1d = torch.nn.Conv1d(shape[2], shape[2], 4, groups=shape[2]).cuda().to(dtype)
    x = torch.randn(*shape[:2], 2 * shape[2], generator=torch.manual_seed(0)).cuda().to(dtype).chunk(2, dim=-1)[1]
    with torch.no_grad():
        found = conv_silu(x, conv1d, reverse)
        x = x.double().flip(1) if reverse else x.double()
        expected = F.silu(conv1d.double()(F.pad(x.mT, (3, 0)))).mT
        expected = expected.flip(1) if reverse else expected
    assert found.dtype == dtype
    rounding = torch.finfo(dtype).eps
    torch.testing.assert_close(found.double(), expected, atol=2 * rounding, rtol=2 * rounding)
