import pytest
import torch
import torch.nn.functional as F

from mobilevideogpt.model.videomamba import causal_conv


@pytest.mark.parametrize("length", [1, 3, 4, 50])
def test_the_cpus_convolution_is_pytorchs(length):
    conv1d = torch.nn.Conv1d(6, 6, 4, groups=6)
    ours, reference = (torch.randn(2, length, 6, generator=torch.manual_seed(0), requires_grad=True) for _ in range(2))
    found, expected = causal_conv(ours, conv1d), conv1d(F.pad(reference.mT, (3, 0))).mT
    torch.testing.assert_close(found, expected)
    found.square().sum().backward()
    gradients = conv1d.weight.grad.clone(), ours.grad
    conv1d.zero_grad()
    expected.square().sum().backward()
    torch.testing.assert_close(gradients, (conv1d.weight.grad, reference.grad))
