import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import Qwen2Config, Qwen2ForCausalLM

from mobilevideogpt.model.kernels.lora import FusedLora

needs_a_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


@pytest.fixture(params=[("cpu", torch.float32), ("cpu", torch.bfloat16), ("cuda", torch.bfloat16)], ids=str)
def model(request):
    device, dtype = request.param
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2}
    model = Qwen2ForCausalLM(Qwen2Config(vocab_size=50, num_hidden_layers=2, **sizes)).to(device, dtype)
    lora = LoraConfig(r=4, lora_alpha=8, lora_dropout=0.0, target_modules="all-linear")
    model = get_peft_model(model, lora).train()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    model.forward = torch.autocast(device, torch.bfloat16, enabled=dtype != torch.float32)(model.forward)
    return model


def loss_and_gradients(model, ids):
    model.zero_grad()
    loss = model(input_ids=ids, labels=ids).loss
    loss.backward()
    return loss.detach(), {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}


def test_fused_layers_give_pefts_loss_and_gradients(model):
    ids = torch.randint(0, 50, (2, 9), device=model.device)
    loss, gradients = loss_and_gradients(model, ids)
    FusedLora(model).refresh()
    fused_loss, fused = loss_and_gradients(model, ids)
    tolerance = 1e-5 if model.dtype == torch.float32 else 5e-2
    torch.testing.assert_close(fused_loss, loss, atol=tolerance, rtol=tolerance)
    for name, gradient in gradients.items():
        assert (fused[name] - gradient).norm() <= tolerance * gradient.norm(), name


def test_without_gradients_or_adapters_pefts_modules_run(model):
    ids = torch.randint(0, 50, (1, 5), device=model.device)
    with torch.no_grad():
        expected = model(input_ids=ids).logits
        with model.disable_adapter():
            base = model(input_ids=ids).logits
    FusedLora(model)
    with torch.no_grad():
        assert torch.equal(model(input_ids=ids).logits, expected)
    with model.disable_adapter():
        assert torch.equal(model(input_ids=ids).logits, base)


def test_dropout_drops_the_same_elements_of_value_and_gradients():
    torch.manual_seed(0)
    wrapped = torch.nn.Sequential(torch.nn.Linear(16, 8))
    model = get_peft_model(wrapped, LoraConfig(r=4, lora_dropout=0.5, target_modules=["0"])).train()
    layer = model.base_model.model[0]
    torch.nn.init.normal_(layer.lora_B["default"].weight)
    FusedLora(model).refresh()
    x = torch.randn(3, 5, 16, requires_grad=True)
    torch.manual_seed(1)
    y = layer(x)
    y.square().sum().backward()
    found = x.grad, layer.lora_A["default"].weight.grad, layer.lora_B["default"].weight.grad
    a, b = (f["default"].weight.detach().requires_grad_() for f in (layer.lora_A, layer.lora_B))
    reference = x.detach().requires_grad_()
    torch.manual_seed(1)
    kept = torch.native_dropout(x.detach().reshape(-1, 16), 0.5, True)[1].view(x.shape)
    expected = layer.base_layer(reference) + layer.scaling["default"] * (reference * kept * 2) @ a.mT @ b.mT
    expected.square().sum().backward()
    torch.testing.assert_close(y, expected)
    torch.testing.assert_close(found, (reference.grad, a.grad, b.grad))


def kept_by(kernels, seed, p, tokens, width):
    """Mask of the elements that dropout keeps, ``(tokens, width)``: ones times one-hot rows, 16 columns at a time."""
    ones = torch.ones(tokens, width, device="cuda", dtype=torch.bfloat16)
    hot = torch.eye(width, device="cuda", dtype=torch.bfloat16)
    columns = [kernels.down(ones, rows.contiguous(), seed, p, 1 - p) for rows in hot.split(16)]
    return torch.cat(columns, dim=1)


@pytest.mark.gpu
@needs_a_gpu
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize(("tokens", "width", "ranks"), [(5, 24, 4), (200, 300, 64), (130, 896, 16), (70, 2100, 128)])
def test_kernels_drop_the_same_elements_of_value_and_gradients(tokens, width, ranks, dtype):
    from mobilevideogpt.model.kernels import lora_triton

    torch.manual_seed(0)
    seed = torch.empty(1, dtype=torch.int64, device="cuda").random_()
    x, dx = (torch.randn(tokens, width, device="cuda").to(dtype) for _ in range(2))
    a, dmiddle = torch.randn(ranks, width, device="cuda").to(dtype), torch.randn(tokens, ranks, device="cuda").to(dtype)
    kept = kept_by(lora_triton, seed, 0.25, tokens, width)
    assert set(kept.unique().tolist()) == {0.0, 1.0}
    dropped = x.double() * kept.double() / 0.75
    y = lora_triton.down(x, a, seed, 0.25, 2.0)
    expected_dx = dx.double() + 2 * dmiddle.double() @ a.double() * kept.double() / 0.75
    da = lora_triton.add_gradients(x, a, seed, 0.25, 2.0, dmiddle, dx)
    for found, expected in (
        (y, 2 * dropped @ a.double().mT),
        (da, 2 * dmiddle.double().mT @ dropped),
        (dx, expected_dx),
    ):
        assert (found.double() - expected).norm() <= 4e-3 * expected.norm()
    assert torch.equal(da, lora_triton.add_gradients(x, a, seed, 0.25, 2.0, dmiddle, None)), "the same each time"


@pytest.mark.gpu
@needs_a_gpu
def test_kernels_drop_as_many_as_asked_and_others_each_time():
    from mobilevideogpt.model.kernels import lora_triton

    seeds = torch.arange(2, device="cuda")
    one, other = (kept_by(lora_triton, seed, 0.05, 1000, 512) for seed in seeds.split(1))
    for kept in (one, other):
        assert abs(kept.mean().item() - 0.95) < 0.002
        assert abs(kept.float().mean(0) - 0.95).max() < 0.05
    assert abs((one * other).float().mean().item() - 0.95**2) < 0.003
