"""A fine-tuned model is found by a run, a folder or an export; what is damaged or of another base is refused."""

import json
import shutil

import pytest

from mobilevideogpt.errors import InputError
from mobilevideogpt.files import write_json
from mobilevideogpt.serving.export import export
from mobilevideogpt.serving.finetuned import find_finetuned


@pytest.mark.parametrize("name", ["tiny", "results/tiny", "results/tiny/adapter"])
def test_a_run_is_found_by_its_name_its_folder_and_its_adapter(name, project):
    found = find_finetuned(name)
    assert found.name == "tiny" and found.adapter.samefile("results/tiny/adapter")
    assert (found.prompt, found.exercises) == ("Analyze this {exercise} video.", ("lunges", "squats"))
    assert found.data_root.samefile("dataset")


def test_an_adapter_alone_says_its_base_and_its_prompt(project):
    shutil.copytree("results/tiny/adapter", "elsewhere")
    found = find_finetuned("elsewhere")
    assert found.run is None and found.prompt == "Analyze this {exercise} video."
    assert found.paths == find_finetuned("tiny").paths


def test_an_export_is_its_own_base(project):
    export(find_finetuned("tiny"), "exported")
    found = find_finetuned("exported")
    assert found.adapter is None and found.paths.base == "exported" and found.exercises == ("lunges", "squats")
    assert "secret-machine" not in "".join(path.read_text(errors="ignore") for path in project.glob("exported/*"))
    weights = project / "exported/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    with pytest.raises(InputError, match="exported: these files are not those that were written"):
        find_finetuned("exported")


@pytest.mark.parametrize("name", ["nope", "results/nope"])
def test_a_missing_run_lists_those_that_exist_and_says_how_to_train(name, project):
    with pytest.raises(InputError, match=r"nope: there is no such run.* are: tiny\. `snakemake finetune --con"):
        find_finetuned(name)


def test_a_run_without_a_record_says_how_to_train(project):
    (project / "results/tiny/train.json").unlink()
    with pytest.raises(InputError, match=r"has not been trained .*`snakemake finetune --config run=tiny`"):
        find_finetuned("tiny")


def test_another_base_than_that_of_the_training_is_refused(project, tiny):
    copy = shutil.copytree(tiny.paths.base, project / "base")
    record = json.loads((project / "results/tiny/train.json").read_text())
    write_json(record | {"model": {"base": str(copy)}}, "results/tiny/train.json")
    assert find_finetuned("tiny").paths.base == str(copy)  # the same content at another place
    (copy / "config.json").write_text((copy / "config.json").read_text() + "\n")
    with pytest.raises(InputError, match="is not the base of this training"):
        find_finetuned("tiny")


def test_a_base_that_is_nowhere_is_not_downloaded_where_that_is_not_allowed(project):
    record = json.loads((project / "results/tiny/train.json").read_text())
    write_json(record | {"model": {"base": "checkpoints/owner/name"}}, "results/tiny/train.json")
    with pytest.raises(InputError, match=r"checkpoints/owner/name: the base of this training is not here.*fetch"):
        find_finetuned("tiny", download=False)
