import pytest
import torch

from mobilevideogpt.model.modeling import MobileVideoGPTForConditionalGeneration


@pytest.fixture
def seen(tiny):
    """The numbers of positions that the last layer's MLP has computed, in order."""
    counts = []
    tiny.model.layers[-1].mlp.register_forward_pre_hook(lambda module, args: counts.append(args[0].shape[1]))
    return counts


def everything(monkeypatch):
    """Let the last layer compute all positions."""
    monkeypatch.setattr(MobileVideoGPTForConditionalGeneration, "_kept", lambda *_: None)


@pytest.mark.parametrize(
    ("implementation", "padding"), [("sdpa", "left"), ("sdpa", "right"), ("sdpa", "none"), ("eager", "left")]
)
def test_loss_logits_and_gradients_are_those_of_all_positions(
    implementation, padding, tiny, labelled, seen, monkeypatch
):
    tiny.set_attn_implementation(implementation)
    if padding == "right":
        labelled = {k: v.flip(1) if v.dim() == 2 else v for k, v in labelled.items()}
    elif padding == "none":
        labelled["attention_mask"] = torch.ones_like(labelled["attention_mask"])
    found = []
    for _ in range(2):
        out = tiny.train()(**labelled)
        tiny.zero_grad()
        out.loss.backward()
        gradients = {name: p.grad for name, p in tiny.named_parameters() if p.grad is not None}
        found.append((out.loss, out.logits, gradients))
        everything(monkeypatch)
    (loss, logits, gradients), (expected_loss, expected_logits, expected) = found
    assert seen == [logits.shape[1], labelled["input_ids"].shape[1]] and seen[0] < seen[1] / 10
    torch.testing.assert_close(loss, expected_loss)
    torch.testing.assert_close(logits, expected_logits)
    assert gradients.keys() == expected.keys()
    for name, gradient in expected.items():
        torch.testing.assert_close(gradients[name], gradient, rtol=1e-4, atol=1e-6)


def test_an_answer_computes_one_position_of_its_prompt_and_is_the_same(tiny, batch, seen, monkeypatch):
    answer = tiny.generate(**batch, max_new_tokens=6, do_sample=False)
    assert seen == [1] * 6
    everything(monkeypatch)
    assert torch.equal(answer, tiny.generate(**batch, max_new_tokens=6, do_sample=False))
    assert seen[6] == batch["input_ids"].shape[1]


def test_all_positions_are_computed_where_they_are_asked_for(tiny, labelled, seen):
    length = labelled["input_ids"].shape[1]
    unlabelled = {k: v for k, v in labelled.items() if k != "labels"}
    tiny(**labelled, output_hidden_states=True)
    hidden_states = tiny(**labelled, output_hidden_states=True).hidden_states
    assert tiny(**unlabelled).logits.shape[1] == length
    assert seen == [length] * 3 and hidden_states[-1].shape[1] == length


def test_positions_can_be_chosen_by_the_caller(tiny, batch, seen):
    places = torch.tensor([3, 8])
    chosen = tiny(**batch, logits_to_keep=places).logits
    assert seen == [2]
    torch.testing.assert_close(chosen, tiny(**batch).logits[:, places])
