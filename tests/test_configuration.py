"""What the workflow's configuration resolves to."""

from pathlib import Path
from typing import Literal, get_args, get_origin, get_type_hints

import pytest
import yaml

from mobilevideogpt.configuration import resolve, resolve_source
from mobilevideogpt.errors import InputError
from mobilevideogpt.settings import defaults
from mobilevideogpt.training.settings import TrainingSettings

CONFIGS = Path(__file__).parents[1] / "config"
FINETUNE = yaml.safe_load((CONFIGS / "schema.yaml").read_text())["properties"]["finetune"]
SPLIT = {"train": 1.0, "val": 0, "test": 0}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A project without data."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def add(path):
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("")


def resolved(config=None, **options):
    return resolve(config or {}, config_folder=CONFIGS, **options)


@pytest.mark.parametrize("file", ["manifest.json", "ground_truth.json", "questions.json", "squats/1.MP4"])
def test_auto_means_the_user_s_data_where_there_is_any(file):
    add("dataset/sample/squats/1.mp4")
    assert resolve_source("auto") == "sample"
    add(f"dataset/{file}")
    assert resolve_source("auto") == "qved"
    assert resolve_source("hub") == "hub" and resolve_source("sample") == "sample"


def test_the_user_s_data_cannot_be_forced_where_there_is_none():
    with pytest.raises(InputError, match=r"dataset/manifest\.json; add it"):
        resolve_source("qved")
    add("dataset/squats/1.mp4")
    assert resolve_source("qved") == "qved"


def test_with_data_of_the_user_the_defaults_are_those_of_the_schema():
    add("dataset/manifest.json")
    found = resolved({"finetune": {"epochs": "3"}})
    assert found.source == "qved" and found.notice == ""
    assert found.settings["finetune"]["epochs"] == 3 and found.settings["finetune"]["precision"] == "bf16"
    assert found.released_model == found.settings["model"]


def test_the_sample_s_settings_are_between_the_defaults_and_the_user_s():
    default = defaults(yaml.safe_load((CONFIGS / "schema.yaml").read_text()))
    given = {"finetune": {"precision": "bf16", "learning_rate": 0.5, "batch_size": "8"}}
    found = resolved(default | given, command_line={"finetune": {"precision": "bf16"}})
    finetune = found.settings["finetune"]
    assert found.source == "sample" and found.settings["run"] == "finetune"
    assert finetune["lora_dropout"] == 0, "the sample's"
    assert finetune["learning_rate"] == 0.5 and finetune["batch_size"] == 8, "the user's"
    assert finetune["precision"] == "bf16", "the default, but asked for on the command line"
    assert found.released_model["base"] == "Amshaker/Mobile-VideoGPT-0.5B" != found.settings["model"]["base"]


def test_a_notice_of_two_lines_says_why_the_sample_is_used_and_what_it_changes():
    first, second = resolved().notice.splitlines()
    assert first.startswith("No dataset/manifest.json: using the built-in sample")
    assert "finetune.lora_dropout=0.0" in second and "finetune.epochs" not in second
    add("dataset/manifest.json")
    assert resolved({"dataset": {"source": "sample"}}).notice.startswith("dataset.source is sample: using")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"run": "features"}, "run: features is a name that the workflow uses"),
        ({"run": "preflight.rehearsal.json"}, "choose another"),
        ({"annotations": {"split": SPLIT | {"test": 0.3}}}, r"annotations\.split: the fractions add up to 1\.3"),
        ({"finetune": {"quantization": "nf4", "method": "full"}}, r"finetune\.quantization: nf4 does not go with"),
        ({"finetune": {"epochz": 1}}, "did you mean 'epochs'"),
    ],
)
def test_settings_that_cannot_be_are_named(config, message):
    with pytest.raises(InputError, match=message):
        resolved(config)


def test_the_training_settings_have_the_names_defaults_types_and_choices_of_the_schema():
    assert vars(TrainingSettings()) == defaults(FINETUNE)
    for name, hint in get_type_hints(TrainingSettings).items():
        entry = FINETUNE["properties"][name]
        assert _schema_of(hint) == [_stripped(one) for one in entry.get("oneOf", [entry])], name


def _stripped(entry):
    """A schema's type or choices, without bounds and texts."""
    return {key: value for key, value in entry.items() if key in ("type", "enum", "const")}


def _schema_of(hint):
    names = {int: "integer", float: "number", bool: "boolean", type(None): "null"}
    if get_origin(hint) is list:
        return [{"type": "array"}]
    if get_origin(hint) is Literal:
        return [{"enum": list(get_args(hint))}]
    kinds = get_args(hint)
    if type(None) in kinds:
        return [{"type": [names[kind] for kind in kinds]}]
    return [
        {"const": get_args(kind)[0]} if get_origin(kind) is Literal else {"type": names[kind]}
        for kind in kinds or (hint,)
    ]
