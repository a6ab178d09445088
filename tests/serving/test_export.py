"""The exported checkpoint, with a tiny random model."""

from mobilevideogpt.evaluation.generation import load_for_inference, predict
from mobilevideogpt.model.adapter import load_adapter
from mobilevideogpt.model.model_paths import ModelPaths


def test_the_exported_checkpoint_answers_as_base_and_adapter_do(run_script, tiny, tmp_path):
    run_script("export.py", {"folder": tmp_path / "export"})
    options = {"batch_size": 4, "max_new_tokens": 8}
    arguments = (tiny.processor, tiny.samples, tiny.store)
    adapted = load_adapter(load_for_inference(tiny.paths), tiny.adapter)
    merged = load_for_inference(ModelPaths(str(tmp_path / "export")))
    assert predict(merged, *arguments, **options) == predict(adapted, *arguments, **options)
