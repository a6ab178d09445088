"""A copy of the project with a user's eight clips: fresh, or after a whole run. Each test gets a copy of its own."""

import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import yaml
from filelock import FileLock

from mobilevideogpt.files import write_json
from mobilevideogpt.model.modeling import MobileVideoGPTForConditionalGeneration
from mobilevideogpt.sample.exercises import EXERCISES
from mobilevideogpt.sample.names import NO_ISSUE
from mobilevideogpt.sample.render import ClipSpec, write_clip
from tests.tiny import tiny_config, token_ids, write_byte_tokenizer
from tests.workflow.fork_server import ForkServer

ROOT = Path(__file__).parents[2]
SLURM_PLUGIN = Path(sys.prefix, "slurm")  # a folder of its own, see the Makefile
REHEARSAL = "results/preflight.rehearsal.json"
SETTINGS = {
    "run": "tiny",
    "model": {"base": "mobilevideogpt/sample/base", "video_encoder": None, "image_encoder": None},
    "features": {"dtype": "float32"},
    "preflight": {"allow_cpu": True, "min_free_disk_gb": 0.1},
    "finetune": {
        "epochs": 1,
        "batch_size": 2,
        "learning_rate": 1e-3,
        "projector_learning_rate": 3e-4,
        "lora_r": 4,
        "lora_alpha": 8,
        "precision": "fp32",
        "gradient_checkpointing": False,
        "num_workers": 0,
        "deepspeed": "none",
        "report_to": [],
    },
    "evaluate": {"max_new_tokens": 8},
}
SERVER = ForkServer()  # of this pytest worker
# Snakemake's usual messages name jobs and plan; test_terminal.py reads those that a person sees.
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "COLUMNS": "200", "SNAKEMAKE_LOGGER_STAGES_USUAL": "true"}


@dataclass
class Outcome:
    """What one call of Snakemake left behind."""

    status: int
    out: str
    err: str

    @property
    def text(self) -> str:
        return self.out + self.err

    @property
    def finished(self) -> set[str]:
        """Rules whose jobs ran to their end."""
        return set(re.findall(r"^Finished jobid: \d+ \(Rule: (\w+)\)", self.err, re.M)) - {"all"}

    @property
    def planned(self) -> set[str]:
        """Rules in the plan that is shown before anything runs."""
        table = re.search(r"^Job stats:\n.*\n-+ .*\n((?:\w+ +\d+\n)+)", self.text, re.M)
        return {line.split()[0] for line in table[1].splitlines()} - {"all", "total"} if table else set()

    @property
    def is_settled(self) -> bool:
        return self.status == 0 and "Nothing to be done" in self.text


@dataclass
class Project:
    """A folder that holds the project and a data set."""

    folder: Path

    def __truediv__(self, path: str) -> Path:
        return self.folder / path

    def start(self, *arguments: str, before: Path | None = None) -> subprocess.Popen:
        """Start Snakemake in a process group of its own; ``before`` goes in front of the import path."""
        return subprocess.Popen(
            [sys.executable, "-m", "snakemake", *arguments],
            cwd=self.folder,
            env=self._environment(before),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def _environment(self, before: Path | None) -> dict[str, str]:
        imports = [str(path) for path in (before, self.folder) if path]
        return {**os.environ, "PYTHONPATH": os.pathsep.join(imports), **ENVIRONMENT}

    def snakemake(self, *arguments: str, before: Path | None = None) -> Outcome:
        """Run Snakemake to its end; on a timeout of the test nothing of it stays."""
        if before:  # which may replace what the server has imported
            process = self.start(*arguments, before=before)
            try:
                out, err = process.communicate()
                return Outcome(process.returncode, out, err)
            finally:
                if process.poll() is None:
                    os.killpg(process.pid, signal.SIGKILL)
        with tempfile.TemporaryDirectory() as output:
            status = SERVER.call(list(arguments), self.folder, self._environment(None), Path(output))
            return Outcome(status, *(Path(output, name).read_text() for name in ("out", "err")))

    def run(self, *arguments: str) -> Outcome:
        """Run Snakemake on one core and expect success."""
        outcome = self.snakemake("--cores", "1", *arguments)
        assert outcome.status == 0, outcome.text
        return outcome

    def json(self, path: str):
        return json.loads((self / path).read_text())

    def configure(self, **changes) -> None:
        """Change config.yaml, group by group."""
        settings = yaml.safe_load((self / "config.yaml").read_text())
        for name, value in changes.items():
            settings[name] = {**settings[name], **value} if isinstance(value, dict) else value
        (self / "config.yaml").write_text(yaml.safe_dump(settings))

    def edit(self, path: str, old: str, new: str) -> None:
        """Replace one text in a file."""
        text = (self / path).read_text()
        assert text.count(old) >= 1, f"{path} does not hold {old!r}"
        (self / path).write_text(text.replace(old, new, 1))

    def files(self) -> set[str]:
        """All files of data set and results, but logs."""
        found = (path for top in ("dataset", "results") for path in (self / top).rglob("*") if path.is_file())
        names = {path.relative_to(self.folder).as_posix() for path in found}
        return {name for name in names if "/logs/" not in name}

    def wait_for(self, path: str, process: subprocess.Popen) -> None:
        deadline = time.monotonic() + 120
        while not list(self.folder.glob(path)):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline, f"{path} does not come"
            time.sleep(0.01)


def copy_code(folder: Path) -> None:
    """Copy what a clone holds, with changes that are not committed, but no tests."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    for name in names:
        if (ROOT / name).is_file() and not name.startswith(("tests/", "benchmarks/")):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)


def copy_of(project: Project, folder: Path) -> Project:
    """Copy a project with its dates and with what Snakemake remembers."""
    return Project(Path(shutil.copytree(project.folder, folder, symlinks=True)))


@pytest.fixture(scope="session")
def clone(tmp_path_factory):
    """The project without any data."""
    project = Project(tmp_path_factory.mktemp("clone") / "project")
    copy_code(project.folder)
    return project


@pytest.fixture(scope="session")
def whole_run(clone, tmp_path_factory):
    """The project after `snakemake --cores 1`, and what that printed; to be read only. Made once for all workers."""
    top = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        top = top.parent
    done = top / "whole_run.pickle"
    with FileLock(top / "whole_run.lock"):
        if not done.exists():
            project = copy_of(clone, Path(tempfile.mkdtemp(dir=top)) / "project")
            add_data(project)
            done.write_bytes(pickle.dumps((project, project.snakemake("--cores", "1"))))
    project, outcome = pickle.loads(done.read_bytes())
    assert outcome.status == 0, outcome.text
    return project, outcome


def add_data(project: Project) -> None:
    """Add clips, manifest, labels and settings, and put a random base in place of the sample's: it is faster."""
    project.configure(**SETTINGS)
    base = project / SETTINGS["model"]["base"]
    shutil.rmtree(base)
    processor = write_byte_tokenizer(base)
    torch.manual_seed(0)
    config = tiny_config(**token_ids(processor), initializer_range=0.2)
    MobileVideoGPTForConditionalGeneration(config).save_pretrained(base, layout="official")
    labels = []
    for exercise in ("squats", "tricep_stretch"):
        for number in range(1, 5):
            variation = NO_ISSUE if number % 2 else EXERCISES[exercise].faults[0]
            spec, path = ClipSpec(exercise, variation, (7, number)), f"{exercise}/{number:04d}.mp4"
            write_clip(spec, project / "dataset" / path)
            labels.append({"video_path": path, "labels": [spec.label], "labels_descriptive": [spec.descriptive_label]})
    write_json(labels, project / "dataset/fine_grained_labels.json")
    manifest = {f"dataset/{label['video_path']}": label["video_path"].split("/")[0] for label in labels}
    write_json(manifest, project / "dataset/manifest.json")


@pytest.fixture(scope="session")
def prepared(clone, whole_run, tmp_path_factory):
    """The project with its data, before any run, and what a machine keeps: compiled code, the last rehearsal."""
    project, ran = copy_of(clone, tmp_path_factory.mktemp("prepared") / "project"), whole_run[0]
    shutil.rmtree(project / SETTINGS["model"]["base"])
    shutil.copytree(ran / SETTINGS["model"]["base"], project / SETTINGS["model"]["base"])
    for path in ("config.yaml", "dataset/manifest.json", "dataset/fine_grained_labels.json"):
        shutil.copy2(ran / path, project / path)
    for folder in ("dataset/squats", "dataset/tricep_stretch"):
        shutil.copytree(ran / folder, project / folder)
    for folder in (ran / "mobilevideogpt").rglob("__pycache__"):
        shutil.copytree(folder, project / str(folder.relative_to(ran.folder)))
    shutil.copy2(ran / REHEARSAL, project / REHEARSAL)
    return project


@pytest.fixture
def fresh(prepared, tmp_path):
    """A project of the test's own, with data, before any run."""
    return copy_of(prepared, tmp_path / "project")


@pytest.fixture
def trained(whole_run, tmp_path):
    """A project of the test's own, after a whole run."""
    return copy_of(whole_run[0], tmp_path / "project")


@pytest.fixture
def without_data(clone, tmp_path):
    """A project of the test's own, as it is cloned."""
    return copy_of(clone, tmp_path / "project")
