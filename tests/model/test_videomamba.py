import pytest
import torch
import torch.nn.functional as F

from mobilevideogpt.model.videomamba import conv_silu


@pytest.mark.parametrize("length", [1, 3, 4, 50])
def test_the_cpus_convolution_is_pytorchs(length):
    conv1d = torch.nn.Conv1d(6, 6, 4, groups=6)
    ours, reference = (torch.randn(2, length, 6, generator=torch.manual_seed(0), requires_grad=True) for _ in range(2))
    found, expected = conv_silu(ours, conv1d), F.silu(conv1d(F.pad(reference.mT, (3, 0))).mT)
    torch.testing.assert_close(found, expected)
    found.square().sum().backward()
    gradients = conv1d.weight.grad.clone(), ours.grad
    conv1d.zero_grad()
    expected.square().sum().backward()
    torch.testing.assert_close(gradients, (conv1d.weight.grad, reference.grad))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("shape", [(1, 1, 8), (3, 50, 200), (2, 1569, 1152)])
def test_the_triton_convolution_is_pytorchs(shape, dtype):
    conv1d = torch.nn.Conv1d(shape[2], shape[2], 4, groups=shape[2]).cuda().to(dtype)
    x = torch.randn(*shape[:2], 2 * shape[2], generator=torch.manual_seed(0)).cuda().to(dtype).chunk(2, dim=-1)[1]
    with torch.no_grad():
        found = conv_silu(x, conv1d)
        expected = F.silu(conv1d.double()(F.pad(x.double().mT, (3, 0)))).mT
    assert found.dtype == dtype
    rounding = torch.finfo(dtype).eps
    torch.testing.assert_close(found.double(), expected, atol=2 * rounding, rtol=2 * rounding)
