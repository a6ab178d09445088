import pytest
import torch
import torch.nn.functional as F

from mobilevideogpt.model.scan import plain_scan, selective_scan

SHAPES = [(1, 8, 1, 4), (2, 24, 37, 16), (3, 5, 130, 7), (1, 40, 1569, 16)]
gpu = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


def inputs(batch, width, length, n_states, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator)

    return {
        "u": normal(batch, length, width).mT,
        "delta": normal(batch, length, width).mT * 2,
        "A": -normal(width, n_states).exp(),
        "B": normal(batch, n_states, length),
        "C": normal(batch, n_states, length),
        "D": normal(width),
        "z": normal(batch, length, width).mT,
        "delta_bias": normal(width) - 2,
    }


def step_by_step(u, delta, A, B, C, D, z, delta_bias):
    """The definition, one token after the other, in float64."""
    u, delta, A, B, C, D, z, delta_bias = (t.double() for t in (u, delta, A, B, C, D, z, delta_bias))
    delta = F.softplus(delta + delta_bias[:, None])
    state, y = torch.zeros(*u.shape[:2], A.shape[1], dtype=torch.float64, device=u.device), []
    for t in range(u.shape[2]):
        state = torch.exp(delta[:, :, t, None] * A) * state + (delta * u)[:, :, t, None] * B[:, None, :, t]
        y.append((state * C[:, None, :, t]).sum(-1))
    return (torch.stack(y, -1) + D[:, None] * u) * F.silu(z)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_plain_way_follows_the_definition(shape):
    tensors = inputs(*shape)
    torch.testing.assert_close(plain_scan(**tensors).double(), step_by_step(**tensors), atol=1e-4, rtol=1e-4)


def test_steps_too_long_for_a_product_of_decays_are_safe():
    tensors = inputs(1, 8, 500, 16)
    tensors["delta"] += 50
    torch.testing.assert_close(plain_scan(**tensors).double(), step_by_step(**tensors), atol=1e-2, rtol=1e-4)


def test_half_precision_comes_back_in_half_precision_and_is_summed_in_float32():
    tensors = inputs(2, 24, 200, 16)
    half = {k: t if k in ("A", "D", "delta_bias") else t.bfloat16() for k, t in tensors.items()}
    y = plain_scan(**half)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.double(), step_by_step(**half), atol=1e-2, rtol=1e-2)


def test_the_plain_way_has_the_definitions_gradient():
    ours = {k: t.clone().requires_grad_() for k, t in inputs(2, 6, 50, 5).items()}
    reference = {k: t.detach().clone().requires_grad_() for k, t in ours.items()}
    plain_scan(**ours).square().sum().backward()
    step_by_step(**reference).square().sum().backward()
    for name in ours:
        torch.testing.assert_close(ours[name].grad, reference[name].grad, atol=1e-3, rtol=1e-3, msg=name)


def test_without_a_gpu_the_plain_way_is_taken():
    tensors = inputs(1, 8, 20, 4)
    assert torch.equal(selective_scan(**tensors), plain_scan(**tensors))


@pytest.mark.parametrize("shape", [*SHAPES, (2, 1152, 1569, 16)])
@pytest.mark.parametrize("way", [pytest.param("triton", marks=gpu), pytest.param("mamba_ssm", marks=gpu)])
def test_a_kernel_follows_the_definition(way, shape):
    if way == "triton":
        from mobilevideogpt.model.scan_triton import triton_scan as kernel
    else:
        module = pytest.importorskip("mamba_ssm.ops.selective_scan_interface")

        def kernel(u, delta, A, B, C, D, z, delta_bias):
            return module.selective_scan_fn(u, delta, A, B, C, D, z, delta_bias, delta_softplus=True)

    tensors = {k: t.cuda() for k, t in inputs(*shape).items()}
    torch.testing.assert_close(kernel(**tensors).double(), step_by_step(**tensors), atol=1e-4, rtol=1e-4)
    contiguous = {k: t.contiguous() for k, t in tensors.items()}
    torch.testing.assert_close(kernel(**contiguous).double(), step_by_step(**tensors), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("shape", [pytest.param(shape, marks=gpu) for shape in SHAPES])
def test_the_triton_gradient_is_the_definitions(shape):
    ours = {k: t.cuda().requires_grad_() for k, t in inputs(*shape).items()}
    reference = {k: t.detach().double().requires_grad_() for k, t in ours.items()}
    for scan, tensors in ((selective_scan, ours), (step_by_step, reference)):
        y = scan(**tensors)
        (y / y.shape.numel()).square().sum().backward()
    for name in ours:
        largest = reference[name].grad.abs().max().item()
        torch.testing.assert_close(
            ours[name].grad.double(), reference[name].grad, atol=1e-4 * largest, rtol=1e-3, msg=name
        )


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("_", [pytest.param(None, marks=gpu)])
def test_the_triton_kernel_sums_half_precision_in_float32(dtype, _):
    from mobilevideogpt.model.scan_triton import triton_scan

    half = {k: t.cuda().to(torch.float32 if k in ("A", "D", "delta_bias") else dtype)
            for k, t in inputs(2, 24, 200, 16).items()}  # fmt: skip
    y = triton_scan(**half)
    assert y.dtype == dtype
    torch.testing.assert_close(y.double(), step_by_step(**half), atol=1e-2, rtol=1e-2)
