import pytest
import torch
from torch import nn
from transformers import Trainer

from mobilevideogpt.training.model_setup import keep_mode
from mobilevideogpt.training.trainer import FinetuneTrainer


def test_the_mode_is_that_of_all_modules_whatever_they_were_loaded_in():
    model = nn.Sequential(nn.Dropout(), nn.Sequential(nn.Dropout()).eval())
    keep_mode(model)
    assert all(module.training for module in model.modules())
    for change, training in ((model.eval, False), (model.eval, False), (model.train, True), (model.train, True)):
        assert change() is model
        assert all(module.training == training for module in model.modules())
    nn.ModuleList([model]).eval()  # as DistributedDataParallel does
    assert not any(module.training for module in model.modules())


def test_a_mode_that_a_model_has_visits_no_module(monkeypatch):
    model = nn.Sequential(nn.Dropout())
    keep_mode(model)
    monkeypatch.setattr(nn.Dropout, "train", lambda *_: pytest.fail("visited"))
    model.train()
    with pytest.raises(pytest.fail.Exception):
        model.eval()


def test_work_and_norm_of_gradients_are_those_of_the_trainer(project, tmp_path, monkeypatch):
    seen = []

    def checked(own, theirs):
        def method(self, given):
            if own.__name__ == "_clip_grad_norm":
                gradients = [p.grad.clone() for p in self.model.parameters() if p.grad is not None]
                norm = own(self, given)
                total = torch.nn.utils.get_total_norm(gradients)
                seen.append(torch.equal(norm, total))
                return norm
            seen.append(own(self, given) == theirs(self, given) > 0)
            return own(self, given)

        return method

    for name in ("floating_point_ops", "_clip_grad_norm"):
        monkeypatch.setattr(FinetuneTrainer, name, checked(getattr(FinetuneTrainer, name), getattr(Trainer, name)))
    record = project.finetune(tmp_path / "run", epochs=1)
    assert len(seen) == 2 * record["steps"] and all(seen)
