"""The model card: its front matter, its scores, and the code in it, which runs."""

import re

from huggingface_hub import ModelCard

from mobilevideogpt.files import write_json
from mobilevideogpt.serving.export import export
from mobilevideogpt.serving.finetuned import find_finetuned
from mobilevideogpt.serving.model_card import card, write_card
from mobilevideogpt.training.checkpoints import verified_adapter

SCORES = {"n": 3, "exercise_accuracy": None, "feedback_accuracy": 2 / 3, "rougeL": 0.5}
SCORES |= {"intervals": {"feedback_accuracy": [0.09, 0.99]}, "counts": {"feedback_accuracy": [2, 3]}}
SCORES |= {"confusion": {"exercise": None, "feedback": {}}}
CONCLUSION = {"headline": "It learned", "sentences": ["It answers better than the base."]}


def metrics(digest):
    conclusion = {"settings": {}, "conclusion": CONCLUSION, "tokens_per_second": {}}
    return {"base": SCORES, "finetuned": SCORES, "mismatched_video": None, "digest": digest, **conclusion}


def test_the_card_has_licence_base_scores_and_data_and_leaves_the_adapter_intact(project):
    write_json(metrics("d"), "results/tiny/metrics.json")
    finetuned = find_finetuned("tiny")
    write_card(finetuned, "results/tiny/adapter/README.md", "adapter")
    assert verified_adapter("results/tiny").is_dir()
    found = ModelCard.load("results/tiny/adapter/README.md")
    assert found.data.license == "cc-by-nc-sa-4.0" and found.data["library_name"] == "peft"
    assert [result.metric_value for result in found.data.eval_results] == [0.6667, 0.5]
    assert "| Feedback accuracy | 67\N{NO-BREAK SPACE}%, 2 of 3 (9\N{NO-BREAK SPACE}% to 99" in found.content
    for text in ("It learned.", "Trained on 3 samples", "lunges, squats", "QEVD", "lora_r | 4", "PEFT 0.11"):
        assert text in found.content, text
    assert "secret-machine" not in found.content


def test_scores_of_an_adapter_before_this_one_are_left_out(project):
    write_json(metrics("another"), "results/tiny/metrics.json")
    found = card(find_finetuned("tiny"), "adapter")
    assert "Not evaluated yet" in found.content and found.data.eval_results is None


def test_the_code_of_the_cards_runs(project, capsys):
    finetuned = find_finetuned("tiny")
    export(finetuned, "results/tiny/export")
    (project / "clip.mp4").write_bytes((project / "dataset/squats/1.mp4").read_bytes())
    blocks = [
        block
        for kind in ("adapter", "export")
        for block in re.findall(r"```python\n(.*?)```", card(finetuned, kind).content, re.S)
    ]
    assert len(blocks) == 3
    for block in blocks:
        capsys.readouterr()
        exec(compile(block, "card", "exec"), {})
        assert capsys.readouterr().out.strip(), block
