import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import Qwen2Config, Qwen2ForCausalLM

from mobilevideogpt.model.lora import fuse_lora, lora_linear


@pytest.fixture(params=[torch.float32, torch.bfloat16], ids=str)
def model(request):
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_attention_heads": 4, "num_key_value_heads": 2}
    model = Qwen2ForCausalLM(Qwen2Config(vocab_size=50, num_hidden_layers=2, **sizes)).to(request.param)
    lora = LoraConfig(r=4, lora_alpha=8, lora_dropout=0.0, target_modules="all-linear")
    model = get_peft_model(model, lora).train()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    model.forward = torch.autocast("cpu", torch.bfloat16, enabled=request.param != torch.float32)(model.forward)
    return model


def loss_and_gradients(model, ids):
    model.zero_grad()
    loss = model(input_ids=ids, labels=ids).loss
    loss.backward()
    return loss.detach(), {name: p.grad.clone() for name, p in model.named_parameters() if p.requires_grad}


def test_fused_layers_give_pefts_loss_and_gradients(model):
    ids = torch.randint(0, 50, (2, 9))
    loss, gradients = loss_and_gradients(model, ids)
    fuse_lora(model)
    fused_loss, fused = loss_and_gradients(model, ids)
    tolerance = 1e-5 if model.dtype == torch.float32 else 5e-2
    torch.testing.assert_close(fused_loss, loss, atol=tolerance, rtol=tolerance)
    for name, gradient in gradients.items():
        assert (fused[name] - gradient).norm() <= tolerance * gradient.norm(), name


def test_without_gradients_or_adapters_pefts_own_way_is_taken(model):
    ids = torch.randint(0, 50, (1, 5))
    with torch.no_grad():
        expected = model(input_ids=ids).logits
        with model.disable_adapter():
            base = model(input_ids=ids).logits
    fuse_lora(model)
    with torch.no_grad():
        assert torch.equal(model(input_ids=ids).logits, expected)
    with model.disable_adapter():
        assert torch.equal(model(input_ids=ids).logits, base)


def test_dropout_takes_the_same_elements_from_value_and_gradients():
    torch.manual_seed(0)
    wrapped = torch.nn.Sequential(torch.nn.Linear(16, 8))
    layer = get_peft_model(wrapped, LoraConfig(r=4, lora_dropout=0.5, target_modules=["0"])).base_model.model[0].train()
    torch.nn.init.normal_(layer.lora_B["default"].weight)
    x = torch.randn(3, 5, 16, requires_grad=True)
    torch.manual_seed(1)
    y = lora_linear(x, layer)
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
