import sys

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import Qwen2Config, Qwen2ForCausalLM

from mobilevideogpt.model.kernels import decoder_torch
from mobilevideogpt.model.kernels.decoder import FusedDecoder, fits
from mobilevideogpt.model.kernels.fused import fuse
from mobilevideogpt.model.kernels.lora import LoraGroup

needs_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
LAYERS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
DTYPES = [("cpu", torch.float32), ("cpu", torch.bfloat16), ("cuda", torch.bfloat16)]


def qwen(device="cpu", dtype=torch.float32, dropout=0.0, targets=LAYERS):
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2}
    model = Qwen2ForCausalLM(Qwen2Config(vocab_size=50, num_hidden_layers=3, **sizes)).to(device, dtype)
    for name, parameter in model.named_parameters():
        if "norm" in name or "bias" in name:
            torch.nn.init.normal_(parameter, mean=float("norm" in name), std=0.3)
    lora = LoraConfig(r=4, lora_alpha=8, lora_dropout=dropout, target_modules=targets)
    model = get_peft_model(model, lora).train()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    model.forward = torch.autocast(device, torch.bfloat16, enabled=dtype != torch.float32)(model.forward)
    return model


def loss_and_gradients(model, ids, labels=None):
    model.zero_grad()
    embeds = model.get_input_embeddings()(ids).detach().requires_grad_()
    loss = model(inputs_embeds=embeds, labels=ids if labels is None else labels, use_cache=False).loss
    loss.backward()
    of_parameters = {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}
    return loss.detach(), of_parameters | {"embeddings": embeds.grad}


def assert_equal(found, expected, tolerance):
    torch.testing.assert_close(found[0], expected[0], atol=tolerance, rtol=tolerance)
    for name, gradient in expected[1].items():
        assert (found[1][name] - gradient).norm() <= tolerance * gradient.norm(), name


@pytest.mark.parametrize(("device", "dtype"), DTYPES, ids=str)
def test_the_fused_decoder_gives_the_loss_and_gradients_of_peft_and_transformers(device, dtype):
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    model, exact = qwen(device, dtype), qwen(device)
    exact.load_state_dict(model.state_dict())  # in float32
    ids = torch.randint(0, 50, (2, 9), device=device)
    expected, plain = (loss_and_gradients(one, ids) for one in (exact, model))
    fuse(model)
    loss, found = loss_and_gradients(model, ids)
    torch.testing.assert_close(loss, expected[0], atol=1e-5 if dtype == torch.float32 else 1e-2, rtol=0)
    errors = [relative_errors(gradients, expected[1]) for gradients in (found, plain[1])]
    assert max(errors[0]) <= 1.5 * max(errors[1]) + 1e-4
    assert sum(errors[0]) <= 1.1 * sum(errors[1]) + 1e-4 * len(errors[0])


def relative_errors(found, expected):
    return [((found[name] - gradient).norm() / gradient.norm()).item() for name, gradient in expected.items()]


def test_recomputed_layers_give_the_same_loss_and_gradients_with_dropout():
    model = qwen(dropout=0.5)
    fuse(model)
    ids = torch.randint(0, 50, (2, 9))
    torch.manual_seed(1)
    expected = loss_and_gradients(model, ids)
    model.gradient_checkpointing_enable({"use_reentrant": False})
    calls = []
    for layer in model.get_base_model().model.layers:
        func = layer._gradient_checkpointing_func
        layer._gradient_checkpointing_func = lambda *args, func=func: calls.append(1) or func(*args)
    torch.manual_seed(1)
    assert_equal(loss_and_gradients(model, ids), expected, 1e-4)
    assert len(calls) == 3


def test_without_gradients_with_a_mask_or_without_adapters_the_plain_modules_run():
    model = qwen()
    ids = torch.randint(0, 50, (2, 5))
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
    calls = {"no_grad": torch.no_grad, "mask": torch.enable_grad, "adapters": model.disable_adapter}
    masks = {"mask": mask}

    def logits(name):
        with calls[name]():
            return model(input_ids=ids, attention_mask=masks.get(name), use_cache=False).logits

    expected = {name: logits(name) for name in calls}
    fuse(model)
    loss_and_gradients(model, ids)  # the frozen weights move into the groups
    for name in calls:
        torch.testing.assert_close(logits(name), expected[name])


@pytest.mark.parametrize("targets", [LAYERS[:4], ["q_proj"]], ids=str)
def test_a_decoder_with_layers_without_lora_keeps_its_modules(targets, monkeypatch):
    monkeypatch.setitem(sys.modules, "liger_kernel", None)  # its kernels take tensors of a GPU alone
    model = qwen(targets=targets)
    assert not fits(model)
    ids = torch.randint(0, 50, (2, 9))
    expected = loss_and_gradients(model, ids)
    fuse(model)
    assert_equal(loss_and_gradients(model, ids), expected, 1e-4)


def test_the_frozen_weights_keep_their_values_and_are_not_stored_twice():
    model = qwen()
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    FusedDecoder(model).refresh()
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]), name
    bases = [m.base_layer.weight for m in model.modules() if hasattr(m, "base_layer")]
    storages = {weight.untyped_storage().data_ptr() for weight in bases}
    assert len(bases) == 3 * 7
    assert len(storages) == 3 * 4


def group_of(n, width, rank, p, device="cpu", dtype=torch.float32):
    base = torch.nn.ModuleDict({str(i): torch.nn.Linear(width, 8 * (i + 1)) for i in range(n)}).to(device, dtype)
    config = LoraConfig(r=rank, lora_alpha=2 * rank, lora_dropout=p, target_modules=[str(i) for i in range(n)])
    model = get_peft_model(base, config).train()
    group = LoraGroup(*(model.base_model.model[str(i)] for i in range(n)))
    group.prepare(torch.arange(1, n + 1, device=device))
    torch.nn.init.normal_(group.a[:], std=width**-0.5)
    return group


def test_dropout_drops_the_same_elements_of_value_and_gradients():
    group = group_of(2, 16, 16, 0.5)
    x = torch.randn(7, 16)
    inputs, middles, masks = decoder_torch.plain_inputs(x, group)
    dropped = [x * mask * 2 for mask in masks]
    factors = group.a.split(group.rank)
    expected = torch.cat([2 * d @ a.mT for d, a in zip(dropped, factors, strict=True)], 1)
    torch.testing.assert_close(middles, expected)
    assert torch.equal(inputs, torch.cat([x, middles], 1))
    dcat = torch.randn_like(inputs)
    dx, da = decoder_torch.plain_gradients(x, group, dcat, masks)
    dmiddles = dcat[:, 16:].split(group.rank, 1)
    through = [2 * m @ a * mask * 2 for m, a, mask in zip(dmiddles, factors, masks, strict=True)]
    torch.testing.assert_close(dx, dcat[:, :16] + sum(through))
    torch.testing.assert_close(da, torch.cat([2 * m.mT @ d for m, d in zip(dmiddles, dropped, strict=True)]))


def assert_close(found, expected, name=""):
    for one, other in zip(found, expected, strict=True):
        if isinstance(other, torch.Tensor):
            error = (one.double() - other.double()).norm()
            assert error <= 4e-3 * other.double().norm(), name


@pytest.mark.gpu
@needs_a_gpu
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize(
    ("n", "tokens", "width", "rank"), [(1, 5, 24, 4), (2, 200, 300, 64), (3, 130, 896, 16), (1, 70, 2104, 128)]
)
def test_kernels_compute_what_pytorch_does(n, tokens, width, rank, dtype):
    from mobilevideogpt.model.kernels import decoder_triton

    group = group_of(n, width, rank, 0.0, "cuda", dtype)
    torch.manual_seed(0)

    def drawn(*shape):
        return torch.randn(shape, device="cuda").to(dtype)

    x, delta, weight, both = drawn(tokens, width), drawn(tokens, width), drawn(width), drawn(tokens, 2 * width)
    dcat, dresidual = drawn(tokens, width + n * group.rank), drawn(tokens, width)
    rstd = decoder_torch.norm_inputs(x, None, weight, 1e-6, None)[1]
    heads, turned = drawn(2, 7, 6, 20).transpose(1, 2), [torch.zeros(2, 6, 7, 20, device="cuda") for _ in range(2)]
    cos, sin = drawn(1, 7, 20), drawn(1, 7, 20)
    for ops, y in zip((decoder_torch, decoder_triton), turned, strict=True):
        ops.rotate(heads, y, cos, sin, -1)
    assert_close(turned[1:], turned[:1], "rotate")
    for name, arguments in {
        "plain_inputs": (x, group),
        "norm_inputs": (x, delta, weight, 1e-6, group),
        "swiglu_inputs": (both, group),
        "plain_gradients": (x, group, dcat, None),
        "norm_gradients": (x, rstd, weight, group, dcat, dresidual, None),
        "swiglu_gradients": (both, group, dcat, None),
    }.items():
        expected = getattr(decoder_torch, name)(*arguments)
        assert_close(getattr(decoder_triton, name)(*arguments), expected, name)


def kept_by(group, tokens):
    """Masks of the elements that dropout keeps, ``(tokens, n, width)``: ones times one-hot rows of A."""
    from mobilevideogpt.model.kernels import decoder_triton

    width, columns = group.a.shape[1], []
    ones, scaling = torch.ones(tokens, width, device="cuda", dtype=group.a.dtype), group.scaling
    before, group.scaling = group.a.clone(), 1 - group.p
    for start in range(0, width, group.rank):
        group.a.zero_()
        for part in group.a.split(group.rank):
            part[:, start : start + group.rank].fill_diagonal_(1)
        columns.append(decoder_triton.plain_inputs(ones, group)[1].view(tokens, -1, group.rank))
    group.scaling = scaling
    group.a.copy_(before)
    return torch.cat(columns, dim=2)[..., :width].double()


@pytest.mark.gpu
@needs_a_gpu
@pytest.mark.parametrize(("n", "tokens", "width", "rank"), [(3, 200, 304, 16), (2, 130, 896, 64), (1, 70, 2104, 128)])
def test_kernels_drop_the_same_elements_of_value_and_gradients(n, tokens, width, rank):
    from mobilevideogpt.model.kernels import decoder_triton

    group = group_of(n, width, rank, 0.25, "cuda", torch.bfloat16)
    kept = kept_by(group, tokens)
    assert set(kept.unique().tolist()) == {0.0, 1.0}
    x = torch.randn(tokens, width, device="cuda").bfloat16()
    dcat = torch.randn(tokens, width + n * group.rank, device="cuda").bfloat16()
    dropped = x.double()[:, None] * kept / 0.75
    factors, dmiddles = group.a.double().split(group.rank), dcat.double()[:, width:].split(group.rank, 1)
    middles = torch.cat([2 * dropped[:, i] @ a.mT for i, a in enumerate(factors)], 1)
    assert_close([decoder_triton.plain_inputs(x, group)[1]], [middles])
    dx = dcat.double()[:, :width] + sum(
        2 * m @ a * kept[:, i] / 0.75 for i, (m, a) in enumerate(zip(dmiddles, factors, strict=True))
    )
    da = torch.cat([2 * m.mT @ dropped[:, i] for i, m in enumerate(dmiddles)])
    found = decoder_triton.plain_gradients(x, group, dcat, None)
    assert_close(found, (dx, da))
    assert torch.equal(found[1], decoder_triton.plain_gradients(x, group, dcat, None)[1]), "the same each time"


@pytest.mark.gpu
@needs_a_gpu
def test_kernels_drop_as_many_as_asked_and_others_in_each_layer():
    one, other = kept_by(group_of(2, 512, 16, 0.05, "cuda", torch.bfloat16), 1000).unbind(1)
    for kept in (one, other):
        assert abs(kept.mean().item() - 0.95) < 0.002
        assert abs(kept.float().mean(0) - 0.95).max() < 0.05
    assert abs((one * other).mean().item() - 0.95**2) < 0.003
