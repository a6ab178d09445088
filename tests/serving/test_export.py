"""Exports: the merged checkpoint, and the adapter in the layout that the original code loads."""

import torch
from safetensors.torch import load_file

from mobilevideogpt.checksums import sums_are_right
from mobilevideogpt.evaluation.generation import load_for_inference, predict
from mobilevideogpt.model.adapter import load_adapter
from mobilevideogpt.model.model_paths import ModelPaths
from mobilevideogpt.serving.export import export, export_original_adapter
from mobilevideogpt.serving.finetuned import find_finetuned

OPTIONS = {"max_new_tokens": 8}


def test_the_exported_checkpoint_answers_as_base_and_adapter_do(project, tiny):
    export(find_finetuned("tiny"), "export")
    assert sums_are_right(project / "export")
    weights = project / "export/model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert not sums_are_right(project / "export")
    weights.write_bytes(content)
    arguments = (tiny.processor, [tiny.samples], tiny.store)
    adapted = load_adapter(load_for_inference(tiny.paths), tiny.adapter)
    merged = load_for_inference(ModelPaths("export"))
    assert predict(merged, *arguments, **OPTIONS) == predict(adapted, *arguments, **OPTIONS)


def test_the_adapter_in_the_original_layout_is_plain_and_answers_the_same(project, tiny):
    finetuned = find_finetuned("tiny")
    export_original_adapter(finetuned, "original-lora")
    folder = project / "original-lora"
    assert sums_are_right(folder) and (folder / "config.json").is_file()
    lora = load_file(folder / "adapter_model.safetensors")
    assert lora and all(".lora_" in name and name.startswith("base_model.model.model.layers.") for name in lora)
    projectors = torch.load(folder / "non_lora_trainables.bin", weights_only=True)
    assert {name.split(".")[3] for name in projectors} == {"mm_projector", "image_mm_projector"}
    assert len(projectors) == 12 and all(name.startswith("base_model.model.model.") for name in projectors)
    arguments = (tiny.processor, [tiny.samples], tiny.store)
    ours = load_adapter(load_for_inference(tiny.paths), tiny.adapter)
    again = load_adapter(load_for_inference(tiny.paths), find_finetuned(folder).adapter)
    assert predict(again, *arguments, **OPTIONS) == predict(ours, *arguments, **OPTIONS)
