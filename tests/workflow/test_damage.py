"""Damage to what the workflow made, at equal size or not: made again, or an error that names the command."""

import os
import shutil

import pytest

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


def test_a_flipped_adapter_is_refused_by_who_loads_it_and_made_again_on_demand(project):
    weights = project / "results/tiny/adapter/adapter_model.safetensors"
    before = weights.read_bytes()
    flip(weights)
    assert project.snakemake("-n", "finetune").is_settled, "content is not read by each call"
    for command in (INFER, ("--forcerun", "export", "--", "export")):
        assert "`snakemake --forcerun finetune`" in refused(project, *command)
    assert project.run("--forcerun", "finetune", "--", "finetune").finished == {"finetune"}
    assert weights.read_bytes() == before
    project.run(*INFER)


@pytest.mark.parametrize("name", ["log.jsonl", "trainer_state.json", "config.yaml"])
def test_what_is_gone_beside_the_adapter_comes_back_without_a_retraining(name, project):
    weights = (project / "results/tiny/adapter/adapter_model.safetensors").read_bytes()
    delete(project / f"results/tiny/{name}")
    assert "finetune" in project.snakemake("-n", "report").planned
    if name == "log.jsonl":  # the others are made by the same code
        assert project.run("finetune").finished == {"finetune"}
        assert (project / f"results/tiny/{name}").is_file()
        assert (project / "results/tiny/adapter/adapter_model.safetensors").read_bytes() == weights
        assert project.snakemake("-n", "finetune").is_settled


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


def test_damaged_features_are_computed_again_by_the_same_command(project):
    """The other kinds of damage: tests/data/test_features.py."""
    key = project.json("results/features/test.json")[0]["features"]
    path = project / f"results/features/{key[:2]}/{key}.safetensors"
    before = path.read_bytes()
    flip(path)
    (project / "results/tiny/metrics.json").unlink()
    assert "run the same command again" in refused(project, "evaluate")
    assert {"features", "evaluate"} <= project.run("evaluate").finished
    assert path.read_bytes() == before


def test_own_files_of_the_wrong_shape_stop_no_command_and_are_named_by_who_reads_them(project):
    for name, content in (("results/annotations/copies.json", "[]"), (".snakemake/source_digests.json", "1")):
        (project / name).write_text(content)
    outcome = project.snakemake("-n", "report")
    assert outcome.status == 0 and "Traceback" not in outcome.text
    (project / "results/preflight.json").write_text("[]")
    assert "results/preflight.json: is a list, not an object; delete it" in refused(project, "report")
