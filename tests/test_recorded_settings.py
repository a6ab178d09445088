"""Which settings a call uses: its own, or those that trained the run."""

import copy
from pathlib import Path

import pytest
import yaml

from mobilevideogpt.errors import InputError
from mobilevideogpt.files import write_json
from mobilevideogpt.recorded_settings import as_given, only_evaluates, settings_of_run
from mobilevideogpt.settings import defaults, merge

SCHEMA = yaml.safe_load((Path(__file__).parents[1] / "config/schema.yaml").read_text())
SETTINGS = defaults(SCHEMA) | {"run": "try2"}


@pytest.fixture
def run(tmp_path):
    """A run that was trained for 3 epochs without a GPU."""
    trained = merge(SETTINGS, {"finetune": {"epochs": 3, "num_workers": 0}, "preflight": {"allow_cpu": True}})
    write_json(as_given(trained), tmp_path / "try2/settings.json")
    write_json({}, tmp_path / "try2/train.json")
    return tmp_path / "try2"


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        ((), False),
        (("all",), False),
        (("report",), True),
        (("evaluate", "report", "compare"), True),
        (("report", "export", "infer"), True),
        (("infer",), True),
        (("report", "finetune"), False),
        (("results/try2/metrics.json",), True),
        (("results/other/metrics.json",), False),
        (("report", "features"), False),
    ],
)
def test_only_a_call_for_evaluation_or_page_is_one(targets, expected):
    assert only_evaluates(targets, "results/try2") is expected


def test_report_uses_the_settings_that_trained_the_run_and_says_in_a_line_what_differs(run):
    now = merge(SETTINGS, {"evaluate": {"max_new_tokens": 6}})
    found = settings_of_run(now, run, ["report"])
    assert found.settings["finetune"]["epochs"] == 3 and found.settings["finetune"]["num_workers"] == 0
    assert found.settings["preflight"]["allow_cpu"] is True
    assert found.settings["evaluate"]["max_new_tokens"] == 6, "which costs no training"
    assert found.settings["run"] == "try2"
    assert found.notice == (
        "run try2 was trained with finetune.epochs 3; the settings now say 10: "
        "`snakemake finetune --config run=try2` trains it again"
    )
    several = settings_of_run(merge(now, {"annotations": {"seed": 1}, "model": {"base": "x"}}), run, ["report"])
    assert "annotations.seed 42, model.base Amshaker/Mobile-VideoGPT-0.5B, finetune.epochs 3;" in several.notice
    assert several.settings["annotations"]["seed"] == 42


@pytest.mark.parametrize("targets", [(), ("finetune",), ("report", "finetune")])
def test_a_call_that_may_train_uses_its_own_settings(run, targets):
    found = settings_of_run(SETTINGS, run, targets)
    assert found.settings == SETTINGS and not found.notice


@pytest.mark.parametrize("missing", ["train.json", "settings.json"])
def test_a_run_that_is_not_trained_or_of_an_earlier_version_uses_the_settings_of_the_call(run, missing):
    (run / missing).unlink()
    assert settings_of_run(SETTINGS, run, ["report"]).settings == SETTINGS


def test_settings_that_cannot_change_the_adapter_are_used_without_a_word(run):
    write_json(
        as_given(merge(SETTINGS, {"finetune": {"num_workers": 0, "batch_size": 2, "gradient_accumulation_steps": 2}})),
        run / "settings.json",
    )
    found = settings_of_run(merge(SETTINGS, {"features": {"batch_size": 1}}), run, ["report"])
    assert found.settings["finetune"]["batch_size"] == 2 and not found.notice, "four clips a step in both"


def test_the_source_of_the_data_is_the_call_s_as_it_names_the_folder(run):
    assert (
        settings_of_run(merge(SETTINGS, {"dataset": {"source": "qved"}}), run, ["report"]).settings["dataset"]["source"]
        == "qved"
    )


def test_settings_of_another_version_are_completed_and_unknown_ones_left_out(run):
    recorded = as_given(copy.deepcopy(SETTINGS))
    del recorded["finetune"]["balance"]
    recorded["finetune"]["from_the_past"] = 1
    write_json(recorded, run / "settings.json")
    assert settings_of_run(SETTINGS, run, ["report"]).settings["finetune"] == SETTINGS["finetune"]


@pytest.mark.parametrize("content", ["", "{", "[]", '{"finetune": 3}', "{}"])
def test_damaged_settings_are_named_with_what_writes_them_again(run, content):
    (run / "settings.json").write_text(content)
    with pytest.raises(InputError, match=r"settings\.json: .*`snakemake finetune --config run=try2` writes it again"):
        settings_of_run(SETTINGS, run, ["report"])
