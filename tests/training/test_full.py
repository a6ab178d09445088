"""All of the language model trained, not LoRA."""

from shutil import copytree

import pytest
import torch
from safetensors.torch import load_file

from mobilevideogpt.data.dataset import AnnotatedVideos
from mobilevideogpt.data.processor import MobileVideoGPTProcessor
from mobilevideogpt.errors import InputError
from mobilevideogpt.model.adapter import load_finetuned, merge_adapter
from mobilevideogpt.model.modeling import MobileVideoGPTForConditionalGeneration
from mobilevideogpt.training import finetune as finetune_module
from mobilevideogpt.training.checkpoints import FINGERPRINT
from mobilevideogpt.training.model_setup import load_for_training
from mobilevideogpt.training.optimizer import parameter_groups
from mobilevideogpt.training.settings import TrainingSettings

FULL = {"method": "full", "deepspeed": "none", "save_total_limit": 2}


def weights(folder, name="adapter"):
    return load_file(folder / name / "model.safetensors")


def from_base(project, **options):
    return MobileVideoGPTForConditionalGeneration.from_pretrained(project.base, dtype=torch.float32, **options)


@pytest.fixture(scope="module")
def full(project, tmp_path_factory):
    """An uninterrupted run: its record, its folder, and the model as it was in memory at its end."""
    folder, models = tmp_path_factory.mktemp("full") / "run", []
    load = finetune_module.load_for_training
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(finetune_module, "load_for_training", lambda *given: models.append(load(*given)) or models[0])
        record = project.finetune(folder, **FULL)
    return record, folder, models[0]


def test_all_of_the_language_model_and_both_projectors_learn_and_the_encoders_stay_the_bases(full, project):
    record, folder, _ = full
    base, saved = load_file(project.base / "model.safetensors"), weights(folder)
    encoders = {name for name in base if "vision_tower." in name}
    assert encoders and saved.keys() == base.keys() - encoders
    assert not [name for name, tensor in saved.items() if torch.equal(tensor, base[name])]
    assert {tensor.dtype for tensor in saved.values()} == {torch.float32}
    projectors = sum(tensor.numel() for name, tensor in saved.items() if "projector." in name)
    counts = {"lora": 0, "projectors": projectors, "frozen": 0}
    assert record["parameters"] == counts | {
        "language_model": sum(tensor.numel() for tensor in saved.values()) - projectors
    }
    rates = record["learning_rates"]
    assert {kind: rate["peak"] for kind, rate in rates.items()} == {"language_model": 1e-3, "projectors": 3e-4}
    assert record["losses"]["val_last"] < record["losses"]["val_first"]


@torch.no_grad()
def test_a_fully_fine_tuned_model_loaded_from_disk_gives_the_logits_it_had_in_memory(full, project):
    _, folder, in_memory = full
    loaded = load_finetuned(from_base(project), folder / "adapter")
    processor = MobileVideoGPTProcessor.from_pretrained(folder / "adapter")
    dataset = AnnotatedVideos(project.val, project.store, processor, 2048)
    batch = processor.pad([dataset[n] for n in range(len(dataset))])
    expected = in_memory.eval()(**batch).logits
    assert torch.equal(loaded(**batch).logits, expected)
    assert not torch.equal(from_base(project)(**batch).logits, expected)
    exported = merge_adapter(loaded)
    assert exported.lm_head.weight is exported.model.embed_tokens.weight
    assert exported.state_dict().keys() == from_base(project).state_dict().keys()


def test_a_killed_full_training_ends_bit_for_bit_where_an_uninterrupted_one_does(full, project, tmp_path):
    _, folder, _ = full
    copytree(folder, tmp_path / "run")
    (tmp_path / "run" / "adapter").rename(tmp_path / "lost")
    assert {path.name for path in (tmp_path / "run").glob("checkpoint-*")} == {"checkpoint-4", "checkpoint-6"}
    (tmp_path / "run" / "checkpoint-6" / FINGERPRINT).unlink()  # as if killed while this was written
    record = project.finetune(tmp_path / "run", **FULL)
    assert record["resumed_from"] == 4
    assert all(torch.equal(tensor, weights(tmp_path / "run")[name]) for name, tensor in weights(folder).items())


def test_the_best_of_a_full_training_is_kept_whole(full, project, tmp_path):
    record, folder, _ = full
    best = record["adapters"]["best"]
    kept = weights(folder, "adapter-best")
    saved = load_file(folder / f"checkpoint-{best['step']}" / "model.safetensors")
    assert all(torch.equal(tensor, kept[name]) for name, tensor in saved.items())
    load_finetuned(from_base(project), folder / "adapter-best")


def test_whole_weights_of_another_shape_are_refused(full, project, tmp_path):
    config = from_base(project).config
    config.intermediate_size = 56
    with pytest.raises(InputError, match=r"tensors do not fit.*mlp"):
        load_finetuned(MobileVideoGPTForConditionalGeneration(config), full[1] / "adapter")
    with pytest.raises(InputError, match=r"adapter_config\.json"):
        load_finetuned(from_base(project), tmp_path)


def test_norms_and_biases_of_the_language_model_do_not_decay(project):
    model = load_for_training(project.settings(**FULL), project.paths)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = parameter_groups(model, {"language_model": 1e-3, "projectors": 1e-4}, weight_decay=0.1)
    assert {(group["kind"], group["weight_decay"]) for group in groups} == {
        (kind, decay) for kind in ("language_model", "projectors") for decay in (0.1, 0.0)
    }
    for group in groups:
        for parameter in group["params"]:
            decays = not names[id(parameter)].endswith(("norm.weight", "bias"))
            assert (group["weight_decay"] > 0) == decays or "projector" in names[id(parameter)]


def test_the_method_shapes_what_is_learned_and_loras_settings_then_do_not():
    lora, full = TrainingSettings(), TrainingSettings(method="full")
    assert lora.result_affecting() != full.result_affecting()
    assert full.result_affecting() == TrainingSettings(method="full", lora_r=8).result_affecting()
    assert lora.result_affecting() != TrainingSettings(lora_r=8).result_affecting()


def test_full_training_in_bf16_with_checkpointing_learns_in_float32(project, tmp_path):
    changes = FULL | {"precision": "bf16", "gradient_checkpointing": True, "epochs": 1}
    project.finetune(tmp_path, **changes)
    assert {tensor.dtype for tensor in weights(tmp_path).values()} == {torch.float32}
