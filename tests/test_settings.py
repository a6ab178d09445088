"""The configuration and its schema."""

from pathlib import Path

import pytest
import yaml

from mobilevideogpt.errors import InputError
from mobilevideogpt.settings import defaults, differing, flatten, merge, validated
from mobilevideogpt.tiny_base import COMMAND

ROOT = Path(__file__).parents[1]
SCHEMA = yaml.safe_load((ROOT / "config/schema.yaml").read_text())
CONFIG = yaml.safe_load((ROOT / "config.yaml").read_text())
SAMPLE = yaml.safe_load((ROOT / "config/sample.yaml").read_text())


def test_config_yaml_states_each_default_of_the_schema():
    assert defaults(SCHEMA) == CONFIG


def test_the_tiny_base_for_own_clips_has_the_settings_of_the_sample_but_its_name_and_prompt():
    tiny = yaml.safe_load((ROOT / "config/tiny.yaml").read_text())
    assert tiny | {"run": "finetune"} == {name: group for name, group in SAMPLE.items() if name != "annotations"}
    assert tiny["run"] != CONFIG["run"] and COMMAND == "snakemake finetune --configfile config/tiny.yaml"


def test_the_sample_sets_known_keys_to_something_else():
    assert validated(SAMPLE, SCHEMA)
    assert differing(SAMPLE, CONFIG) == SAMPLE


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"finetune": {"lerning_rate": 1.0}}, ["finetune", "lerning_rate", "did you mean 'learning_rate'"]),
        ({"finetune": {"learning_rate": "fast"}}, ["finetune.learning_rate", "'fast'", "Peak learning rate"]),
        ({"epochs": 3}, ["top level", "epochs"]),
        ({"dataset": {"source": "mars"}}, ["dataset.source", "mars", "sample"]),
        ({"run": "a/b"}, ["run", "a/b", "Letters, digits"]),
        ({"annotations": {"split": {"train": 0.5, "val": 0.5}}}, ["annotations.split", "test"]),
        ({"finetune": {"seed": -1}}, ["finetune.seed", "-1"]),
        ({"finetune": None}, ["finetune", "None"]),
    ],
)
def test_a_wrong_setting_is_named_with_its_meaning(config, words):
    with pytest.raises(InputError) as caught:
        validated(config, SCHEMA)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_every_wrong_setting_is_named_at_once():
    with pytest.raises(InputError, match=r"(?s)epochz.*batch_size"):
        validated({"epochz": 1, "finetune": {"batch_size": 0}}, SCHEMA)


def test_a_number_that_yaml_reads_as_text_is_a_number():
    config = validated(yaml.safe_load("finetune: {learning_rate: 2e-4, batch_size: '8'}"), SCHEMA)
    assert config["finetune"]["learning_rate"] == 2e-4
    assert config["finetune"]["batch_size"] == 8


def test_words_that_the_command_line_hands_on_as_text_are_what_they_mean():
    given = {"integrity": {"use_normalised": "true", "motion": ["1.5", "null"]}, "model": {"video_encoder": "null"}}
    config = validated(given, SCHEMA)
    assert config["integrity"]["use_normalised"] is True and config["integrity"]["motion"] == [1.5, None]
    assert config["model"]["video_encoder"] is None
    assert validated({"run": "true"}, SCHEMA)["run"] == "true"


def test_layers_are_merged_group_by_group():
    assert merge({"a": {"x": 1, "y": 2}, "b": 3}, {"a": {"y": 4}}) == {"a": {"x": 1, "y": 4}, "b": 3}
    assert dict(flatten({"a": {"y": 4}, "b": 3})) == {"a.y": 4, "b": 3}
