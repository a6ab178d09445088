import os
import shutil
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from mobilevideogpt.model.kernels import backends
from mobilevideogpt.model.kernels.scan import pytorch_scan, selective_scan

SHAPES = [(1, 8, 1, 4), (2, 24, 37, 16), (3, 5, 130, 7), (1, 40, 1569, 16)]


def cpu_scan(**tensors):
    from mobilevideogpt.model.kernels.scan_cpu import cpu_scan  # here, because the tests of a GPU run without Numba

    return cpu_scan(**tensors)


on_both_cpu_backends = pytest.mark.parametrize("scan", [pytorch_scan, cpu_scan])
gpu = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


def inputs(batch, width, length, n_states, seed=0):
    """Random tensors with the strides of the mixer's tensors."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape):
        return torch.randn(*shape, generator=generator)

    _, B, C = normal(batch, length, 4 + 2 * n_states).split([4, n_states, n_states], dim=-1)
    return {
        "u": normal(batch, length, width).mT,
        "delta": normal(batch, length, width).mT * 2,
        "A": -normal(width, n_states).exp(),
        "B": B.mT,
        "C": C.mT,
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


@pytest.mark.parametrize("shape", [*SHAPES, (2, 203, 65, 5), (2, 1, 9, 1)])
@on_both_cpu_backends
def test_each_cpu_backend_follows_the_definition(scan, shape):
    tensors = inputs(*shape)
    torch.testing.assert_close(scan(**tensors).double(), step_by_step(**tensors), atol=1e-4, rtol=1e-4)


def selective_scan_with_a_gradient(**tensors):
    return selective_scan(**{k: t.requires_grad_() if k == "u" else t for k, t in tensors.items()}).detach()


@pytest.mark.parametrize("shape", [*SHAPES, (2, 203, 65, 5), (2, 1, 9, 1)])
@pytest.mark.parametrize("scan", [cpu_scan, selective_scan, selective_scan_with_a_gradient])
def test_a_scan_in_reverse_is_that_of_the_flipped_sequence(scan, shape):
    tensors = inputs(*shape)
    in_time = {"u", "delta", "B", "C", "z"}
    expected = step_by_step(**{k: t.flip(-1) if k in in_time else t for k, t in tensors.items()}).flip(-1)
    torch.testing.assert_close(scan(**tensors, reverse=True).double(), expected, atol=1e-4, rtol=1e-4)


@on_both_cpu_backends
def test_any_strides_give_the_same(scan):
    tensors = inputs(2, 24, 37, 16)
    wide = torch.cat([tensors["z"], tensors["u"]], 1).mT.contiguous().mT
    strided = {k: t.contiguous() for k, t in tensors.items()} | {"z": wide[:, :24], "u": wide[:, 24:]}
    torch.testing.assert_close(scan(**strided), scan(**tensors))


@on_both_cpu_backends
def test_steps_too_long_for_a_product_of_decays_are_safe(scan):
    tensors = inputs(1, 8, 500, 16)
    tensors["delta"] += 50
    torch.testing.assert_close(scan(**tensors).double(), step_by_step(**tensors), atol=1e-2, rtol=1e-4)


@on_both_cpu_backends
def test_a_slow_decay_accumulates_no_error(scan):
    tensors = inputs(1, 8, 3001, 16)
    tensors["delta"] = torch.full_like(tensors["delta"], -4)  # with the bias, steps of about 0.002
    tensors["u"] = tensors["u"].abs()
    expected = step_by_step(**tensors)
    torch.testing.assert_close(scan(**tensors).double(), expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@on_both_cpu_backends
def test_half_precision_is_summed_in_float32_and_returned_in_half_precision(scan, dtype):
    tensors = inputs(2, 24, 200, 16)
    half = {k: t if k in ("A", "D", "delta_bias") else t.to(dtype) for k, t in tensors.items()}
    y = scan(**half)
    assert y.dtype == dtype
    torch.testing.assert_close(y.double(), step_by_step(**half), atol=1e-2, rtol=1e-2)


@on_both_cpu_backends
def test_a_nan_reaches_its_token_and_no_other_channel(scan):
    for name in ("u", "delta", "z"):
        tensors = inputs(1, 3, 20, 4)
        tensors[name][0, 1, 10] = torch.nan
        y = scan(**tensors)
        assert y[0, 1, 10].isnan() and y[0, [0, 2]].isfinite().all(), name


def test_the_pytorch_backend_has_the_gradient_of_the_definition():
    ours = {k: t.clone().requires_grad_() for k, t in inputs(2, 6, 50, 5).items()}
    reference = {k: t.detach().clone().requires_grad_() for k, t in ours.items()}
    pytorch_scan(**ours).square().sum().backward()
    step_by_step(**reference).square().sum().backward()
    for name in ours:
        torch.testing.assert_close(ours[name].grad, reference[name].grad, atol=1e-3, rtol=1e-3, msg=name)


def test_the_cpu_uses_the_compiled_backend_unless_a_gradient_is_needed():
    tensors = {k: t.clone().requires_grad_() for k, t in inputs(1, 8, 20, 4).items()}
    assert selective_scan(**tensors).requires_grad
    with torch.no_grad():
        assert torch.equal(selective_scan(**tensors), cpu_scan(**tensors))


def test_without_numba_the_pytorch_backend_runs_with_a_warning(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "mobilevideogpt.model.kernels.scan_cpu", None)
    monkeypatch.setattr(backends, "numba_scan", backends.numba_scan.__wrapped__)
    tensors = inputs(1, 8, 20, 4)
    assert torch.equal(selective_scan(**tensors), pytorch_scan(**tensors))
    assert "slow" in caplog.text


def test_the_number_of_threads_changes_nothing():
    tensors, threads = inputs(2, 192, 40, 16), torch.get_num_threads()
    found = []
    for n in (1, 3):
        torch.set_num_threads(n)
        found.append(cpu_scan(**tensors))
    torch.set_num_threads(threads)
    assert torch.equal(*found)


@pytest.mark.parametrize("threads", [1, 2])
def test_an_error_in_a_thread_is_raised(threads):
    from mobilevideogpt.model.kernels.scan_cpu import _run_blocks

    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        with pytest.raises(ZeroDivisionError):
            _run_blocks(lambda block: 1 // block, [1, 0, 2])
    finally:
        torch.set_num_threads(before)


def test_a_forked_process_can_scan():
    tensors = inputs(1, 128, 10, 4)
    expected = cpu_scan(**tensors)
    with ProcessPoolExecutor(1, mp_context=get_context("fork")) as pool:
        torch.testing.assert_close(pool.submit(_scan_again, tensors).result(60), expected)


def _scan_again(tensors):
    torch.set_num_threads(2)
    return cpu_scan(**tensors)


def test_without_a_writable_cache_the_scan_is_still_compiled(tmp_path):
    shutil.copy(Path(backends.__file__).with_name("scan_cpu.py"), tmp_path / "scan_copy.py")
    (tmp_path / "__pycache__").touch()  # a file in the place of the folder
    code = "import torch, scan_copy; one = torch.ones(1, 1, 1); "
    code += "print(scan_copy.cpu_scan(one, one, -one[0], one, one, one[0, 0], one, one[0, 0]).item())"
    nowhere = str(tmp_path / "__pycache__")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "HOME": nowhere, "XDG_CACHE_HOME": nowhere}
    environment.pop("NUMBA_CACHE_DIR", None)
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == pytest.approx(selective_scan(**inputs_of_one()).item())


def inputs_of_one():
    one = torch.ones(1, 1, 1)
    names = {"u": one, "delta": one, "A": -one[0], "B": one, "C": one, "D": one[0, 0], "z": one}
    return names | {"delta_bias": one[0, 0]}


@pytest.mark.parametrize("shape", [*SHAPES, (3, 65, 203, 5), (8, 1152, 1569, 16)])
@pytest.mark.parametrize("scan", [pytest.param("triton", marks=gpu), pytest.param("mamba_ssm", marks=gpu)])
def test_each_gpu_kernel_follows_the_definition(scan, shape):
    if scan == "triton":
        from mobilevideogpt.model.kernels.scan_triton import triton_scan as kernel
    else:
        module = pytest.importorskip("mamba_ssm.ops.selective_scan_interface")

        def kernel(u, delta, A, B, C, D, z, delta_bias):
            return module.selective_scan_fn(u, delta, A, B, C, D, z, delta_bias, delta_softplus=True)

    tensors = {k: t.cuda() for k, t in inputs(*shape).items()}
    torch.testing.assert_close(kernel(**tensors).double(), step_by_step(**tensors), atol=1e-4, rtol=1e-4)
    contiguous = {k: t.contiguous() for k, t in tensors.items()}
    torch.testing.assert_close(kernel(**contiguous).double(), step_by_step(**tensors), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("shape", [pytest.param(shape, marks=gpu) for shape in (SHAPES[0], (3, 65, 203, 5))])
@pytest.mark.parametrize("grad", [False, True])
def test_the_triton_scan_in_reverse_is_that_of_the_flipped_sequence(shape, grad):
    tensors = {k: t.cuda() for k, t in inputs(*shape).items()}
    in_time = {"u", "delta", "B", "C", "z"}
    expected = step_by_step(**{k: t.flip(-1) if k in in_time else t for k, t in tensors.items()}).flip(-1)
    tensors["u"].requires_grad_(grad)
    found = selective_scan(**tensors, reverse=True).detach().double()
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("shape", [pytest.param(shape, marks=gpu) for shape in SHAPES])
def test_the_triton_gradient_is_that_of_the_definition(shape):
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
    from mobilevideogpt.model.kernels.scan_triton import triton_scan

    half = {k: t.cuda().to(torch.float32 if k in ("A", "D", "delta_bias") else dtype)
            for k, t in inputs(2, 24, 200, 16).items()}  # fmt: skip
    y = triton_scan(**half)
    assert y.dtype == dtype
    torch.testing.assert_close(y.double(), step_by_step(**half), atol=1e-2, rtol=1e-2)
