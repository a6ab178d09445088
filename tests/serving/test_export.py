"""The exported checkpoint, with a tiny random model."""

from mobilevideogpt.checksums import sums_are_right
from mobilevideogpt.evaluation.generation import load_for_inference, predict
from mobilevideogpt.model.adapter import load_adapter
from mobilevideogpt.model.model_paths import ModelPaths


def test_the_exported_checkpoint_answers_as_base_and_adapter_do(run_script, tiny, tmp_path):
    made_by = tmp_path / "export/made_by.txt"
    run_script("export.py", {"folder": tmp_path / "export", "made_by": "call"}, {"made_by": made_by})
    assert made_by.read_text() == "call\n" and sums_are_right(tmp_path / "export")
    weights = tmp_path / "export/model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert not sums_are_right(tmp_path / "export")
    weights.write_bytes(content)
    options = {"batch_size": 4, "max_new_tokens": 8}
    arguments = (tiny.processor, tiny.samples, tiny.store)
    adapted = load_adapter(load_for_inference(tiny.paths), tiny.adapter)
    merged = load_for_inference(ModelPaths(str(tmp_path / "export")))
    assert predict(merged, *arguments, **options) == predict(adapted, *arguments, **options)
