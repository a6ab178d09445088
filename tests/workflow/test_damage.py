"""Damage to what the workflow made, at equal size or not: made again, or an error that names the command."""

import os
import shutil

import pytest
import torch

from mobilevideogpt.data.features import FeatureStore

CLIP = "video=dataset/squats/0001.mp4"
INFER = ("infer", "--config", CLIP)


def delete(path):
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path):
    """Change one bit, and neither size nor dates: a fault of the disk."""
    content, status = bytearray(path.read_bytes()), path.stat()
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def exchange_with(name):
    def change(path):
        os.replace(path, path.with_suffix(".kept"))
        shutil.copy2(path.parent / name, path)

    return change


def refused(project, *arguments) -> str:
    """Run a command that ends with an error, and return what it printed."""
    outcome = project.snakemake("--cores", "1", *arguments)
    assert outcome.status != 0 and "Traceback" not in outcome.text, outcome.text
    return outcome.text


@pytest.fixture(scope="module")
def exported(whole_run, tmp_path_factory):
    """The project after a whole run and an export; to be read only."""
    project = type(whole_run[0])(shutil.copytree(whole_run[0].folder, tmp_path_factory.mktemp("exported") / "project"))
    project.run("export")
    assert project.snakemake("-n", "export").is_settled
    return project


@pytest.fixture
def project(exported, tmp_path):
    return type(exported)(shutil.copytree(exported.folder, tmp_path / "project", symlinks=True))


def test_damage_to_a_run_is_noticed_by_each_command_and_made_again(project):
    """The other files and kinds of damage: tests/test_damage_table.py and tests/training/test_restoring.py."""
    run, damages = project / "results/tiny", {"adapter/adapter_model.safetensors": flip, "log.jsonl": flip}
    damages |= {"samples/val.json": exchange_with("train.json"), "plots/loss.svg": delete}
    before = {name: (run / name).read_bytes() for name in damages}
    for name, damage in damages.items():
        damage(run / name)
        assert "finetune" in project.snakemake("-n", "report").planned, name
        (run / name).write_bytes(before[name])
    for name, damage in damages.items():
        damage(run / name)
    for command in (INFER, ("export", "--forcerun", "export")):  # neither trains
        assert "these files are not those that the training of" in refused(project, *command), command
    assert project.run("finetune").finished == {"finetune"}
    after = {name: (run / name).read_bytes() for name in damages}
    for name in ("adapter/adapter_model.safetensors", "samples/val.json"):
        assert after[name] == before[name], name
    assert after["log.jsonl"].splitlines()[:-1] == before["log.jsonl"].splitlines()[:-1], "the last line has seconds"
    assert project.snakemake("-n", "finetune").is_settled


@pytest.mark.slow
def test_a_damaged_export_is_made_again(exported, project):
    weights, vocabulary = (project / f"results/tiny/export/{name}" for name in ("model.safetensors", "vocab.json"))
    original = weights.read_bytes()
    for damage, path in (
        (delete, weights),
        (cut, weights),
        (flip, weights),
        (delete, vocabulary),
        (exchange_with("config.json"), vocabulary),
    ):
        kept = path.read_bytes()
        damage(path)
        assert project.snakemake("-n", "export").planned == {"export"}, (damage, path)
        path.write_bytes(kept)
    flip(weights)
    assert project.run("export").finished == {"export"}
    assert weights.read_bytes() == original and project.snakemake("-n", "export").is_settled


def test_a_flipped_base_is_refused_by_who_loads_it(project):
    flip(project / "mobilevideogpt/sample/base/model.safetensors")
    assert "`snakemake --forcerun describe_base`" in refused(project, *INFER)
    (project / "results/tiny/metrics.json").unlink()
    assert "`snakemake --forcerun describe_base`" in refused(project, "evaluate")


@pytest.mark.slow
def test_damaged_features_are_computed_again_by_the_same_command(project):
    """The other kinds of damage: tests/data/test_features.py."""
    key = project.json("results/features/test.json")[0]["features"]
    path = project / f"results/features/{key[:2]}/{key}.safetensors"
    store = FeatureStore(project / "results/features")
    before = {name: tensor.clone() for name, tensor in store.read(key).items()}  # not the file, which is mapped
    flip(path)
    (project / "results/tiny/metrics.json").unlink()
    assert "run the same command again" in refused(project, "evaluate")
    assert {"features", "evaluate"} <= project.run("evaluate").finished
    after = store.read(key)
    assert after.keys() == before.keys() and all(torch.equal(after[name], before[name]) for name in before)


def test_own_files_of_the_wrong_shape_stop_no_command_and_are_named_by_who_reads_them(project):
    for name, content in (("results/annotations/copies.json", "[]"), (".snakemake/source_digests.json", "1")):
        (project / name).write_text(content)
    outcome = project.snakemake("-n", "report")
    assert outcome.status == 0 and "Traceback" not in outcome.text
    (project / "results/preflight.json").write_text("[]")
    assert "results/preflight.json: is a list, not an object; delete it" in refused(project, "report")
