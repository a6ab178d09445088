"""The sample on a real Slurm: `make test-slurm`, or `python -m tests.slurm.run [--folder DIR]`.

Starts a Slurm of two nodes on this machine, see `cluster`, and runs the sample through profiles/slurm to the report:
first undisturbed, then short trainings on both nodes under DDP, ZeRO-2 and ZeRO-3, whose validation losses have to be
those of one; then again from the features on, while nodes are killed in the features and in the training, the training
is cancelled, and its time runs out. The adapter has to be that of a run here with as many threads, to the bit. The last
line is the result. What is missing of Slurm is installed where apt-get and root's rights are there.
"""

import argparse
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from tests.slurm.cluster import PACKAGES, Cluster, missing

ROOT = Path(__file__).parents[2]
PLUGIN = Path(sys.prefix, "slurm")  # a folder of its own, see the Makefile
THREADS = 2
RESULTS = "results/sample"
RUN = f"{RESULTS}/finetune"
# On nodes of two CPUs. In a release's own project the profile alone is enough.
PROFILE = ["--workflow-profile", "profiles/slurm", "--cores", str(THREADS), "--max-threads", str(THREADS)]
PROFILE += ["--groups", "probe_shard=probe", "--group-components", "probe=7", "--latency-wait", "20"]
STAGES = ("none", "zero2", "zero3")  # none is DDP
SHORT_EPOCHS = 2
LARGEST_DIFFERENCE = 0.001  # of a loss; the order of the sums differs, and ten steps add it up
PATIENCE = 900  # seconds for what is waited for


class Project:
    """A copy of the project; its sample's clips and results are its own."""

    def __init__(self, folder: Path, environment: dict[str, str]):
        self.folder = folder
        threads = {"OMP_NUM_THREADS": str(THREADS), "PYTHONPATH": f"{folder}{os.pathsep}{PLUGIN}"}
        self.environment = {**environment, **threads, "SNAKEMAKE_LOGGER_STAGES_USUAL": "true"}

    @classmethod
    def copied(cls, folder: Path, environment: dict[str, str]) -> "Project":
        """Copy what git knows, with changes that are not committed."""
        listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
        for name in names:
            if (ROOT / name).is_file() and not name.startswith(("tests/", "benchmarks/", "dataset/", "results/")):
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, folder / name)
        return cls(folder, environment)

    def start(self, *arguments: str) -> subprocess.Popen:
        """Start Snakemake; its messages go to ``snakemake.log``."""
        with open(self.folder / "snakemake.log", "ab") as log:
            command = [sys.executable, "-m", "snakemake", *arguments]
            return subprocess.Popen(command, cwd=self.folder, env=self.environment, stdout=log, stderr=log)

    def finish(self, process: subprocess.Popen) -> None:
        """Wait for Snakemake; end it where this process is to end first.

        Raises:
            SystemExit: If it failed.
        """
        try:
            failed = process.wait()
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
        if failed:
            fail(f"Snakemake failed in {self.folder}", self.text("snakemake.log"))

    def run(self, *arguments: str) -> float:
        """Run Snakemake and return the seconds."""
        started = time.monotonic()
        self.finish(self.start(*arguments))
        return time.monotonic() - started

    def text(self, path: str) -> str:
        """Return a file's text, of a file that is not there an empty one."""
        file = self.folder / path
        return file.read_text(errors="replace") if file.is_file() else ""

    @property
    def adapter(self) -> str:
        """Digest of the adapter."""
        return json.loads(self.text(f"{RUN}/train.json"))["adapter_content"]

    def train_on_two_nodes(self) -> dict[str, float]:
        """Train shortly on a node, and on both by each of `STAGES`; return by how much validation losses differ.

        Raises:
            SystemExit: If they differ by more than rounding explains, or not two processes trained.
        """
        alone, _ = self._train_shortly("one", nodes=1, stage="none")
        differs = {}
        for stage in STAGES:
            two, seconds = self._train_shortly(f"two-{stage}", nodes=2, stage=stage)
            of_both = [(loss, two["losses"][name]) for name, loss in alone["losses"].items() if name.startswith("val")]
            differs[stage] = max(abs(one - other) / one for one, other in of_both)
            if two["world_size"] != 2 or (two["deepspeed"] or "none") != stage or differs[stage] > LARGEST_DIFFERENCE:
                fail(f"on two nodes: {two['world_size']} processes, {two['deepspeed']}, losses {of_both}")
            tell(f"Two nodes, {stage}: {seconds:.0f} s, losses differ by {differs[stage]:.2g} of themselves at most")
        return differs

    def _train_shortly(self, name: str, nodes: int, stage: str) -> tuple[dict, float]:
        """Return the run record, and the seconds."""
        settings = f"finetune={{nodes: {nodes}, deepspeed: {stage}, epochs: {SHORT_EPOCHS}}}"
        seconds = self.run(*PROFILE, "finetune", "--config", f"run={name}", settings)
        return json.loads(self.text(f"{RESULTS}/{name}/train.json")), seconds

    def submitted(self) -> list[str]:
        """Return the numbers of the jobs that were submitted."""
        return re.findall(r"submitted with SLURM jobid (\d+)", self.text("snakemake.log"))

    def newest_checkpoint(self) -> int:
        """Return the step of the newest complete checkpoint, 0 without one."""
        found = (self.folder / RUN).glob("checkpoint-*/digest.json")
        return max((int(file.parent.name.partition("-")[2]) for file in found), default=0)


class Disturbance:
    """What happens to the jobs of a project while Snakemake runs, and what was seen of each event."""

    def __init__(self, cluster: Cluster, project: Project, process: subprocess.Popen):
        self.cluster, self.project, self.process = cluster, project, process
        self.survived: list[str] = []

    def job_of(self, rule: str, but: str = "") -> str:
        """Wait until a job of a rule runs, another than ``but``, and return its number."""
        return self.wait(lambda: self._running(rule, but), f"a job of {rule}")

    def _running(self, rule: str, but: str) -> str:
        rows = self.cluster.tell("squeue", "-h", "-t", "running", "-o", "%A %k").splitlines()
        return next((row.split()[0] for row in rows if row.endswith(f" rule_{rule}") and row.split()[0] != but), "")

    def wait(self, find: Callable, what: str):
        """Wait for what a function finds.

        Raises:
            SystemExit: If it does not come, or Snakemake has ended.
        """
        deadline = time.monotonic() + PATIENCE
        while not (found := find()):
            if self.process.poll() is not None or time.monotonic() > deadline:
                ended = "after Snakemake had ended" if self.process.poll() is not None else f"in {PATIENCE} s"
                fail(f"{what}: not seen {ended}", self.project.text("snakemake.log"))
            time.sleep(0.2)
        return found

    def lose_node(self, job: str) -> None:
        """Kill the node of a job, wait until Slurm runs the job on another, and start the node again."""
        node = self.cluster.tell("squeue", "-h", "-j", job, "-o", "%N")
        self.cluster.kill_node(node)
        tell(f"  {node} is lost with job {job}")
        self.wait(
            lambda: self.cluster.tell("squeue", "-h", "-j", job, "-t", "running", "-o", "%N") not in ("", node),
            f"job {job} on another node",
        )
        self.cluster.start_node(node)

    def resumed(self, event: str, step: int) -> None:
        """Wait until the training says that it resumes from a checkpoint that is not older than ``step``."""

        def resumes() -> bool:
            found = re.findall(r"resuming from checkpoint-(\d+)", self.project.text(f"{RUN}/logs/finetune.log"))
            return bool(found) and int(found[-1]) >= step

        self.wait(resumes, f"resuming after {event}")
        self.survived.append(event)
        tell(f"  resumed after: {event}, from checkpoint-{step} or later")

    def checkpoint_after(self, step: int) -> int:
        """Wait for a newer checkpoint and return its step."""
        return self.wait(lambda: self.project.newest_checkpoint() > step and self.project.newest_checkpoint(), "steps")

    def disturb(self) -> None:
        """Lose a node in the features; in the training lose a node, cancel the job, and let its time run out."""
        job = self.job_of("features")
        (self.project.folder / RESULTS / "logs/features.log").unlink(missing_ok=True)
        self.wait(lambda: self.project.text(f"{RESULTS}/logs/features.log"), "the features' log")
        self.lose_node(job)
        self.survived.append("node lost in the features")

        job = self.job_of("finetune")
        step = self.checkpoint_after(0)
        self.lose_node(job)
        self.resumed("node lost in the training", step)

        step = self.checkpoint_after(step)
        self.cluster.tell("scancel", job)
        job = self.job_of("finetune", but=job)
        self.resumed("training cancelled", step)

        step = self.checkpoint_after(step)
        self.cluster.freeze(job, "finetune.py")  # instead of a training that is long enough for Slurm's minutes
        self.cluster.tell("scontrol", "update", f"jobid={job}", "TimeLimit=1")
        self.wait(lambda: self.cluster.tell("squeue", "-h", "-j", job, "-t", "timeout", "-o", "%A"), "TIMEOUT")
        self.job_of("finetune", but=job)
        self.resumed("time run out", step)


def install() -> None:
    """Install Slurm where that is possible.

    Raises:
        SystemExit: If something stays missing; it is named.
    """
    if missing() and os.geteuid() == 0 and shutil.which("apt-get"):
        tell(f"Installing {' '.join(PACKAGES)}")
        for command in (["update"], ["install", "--yes", "--no-install-recommends", *PACKAGES]):
            done = subprocess.run(["apt-get", "-qq", *command], capture_output=True, text=True, check=False)
            if done.returncode:
                tell(done.stderr)
    if lacks := missing():
        sys.exit(f"make test-slurm: not run; missing: {', '.join(lacks)} (Debian's packages: {' '.join(PACKAGES)})")


def tell(text: str) -> None:
    """Print a line at once."""
    print(text, flush=True)


def fail(reason: str, log: str = "") -> None:
    """End with the end of a log and the reason as the last line."""
    sys.exit(f"{log[-6000:]}\nmake test-slurm: FAILED: {reason}")


def run(folder: Path) -> str:
    """Run everything below a folder and return the result in a line."""
    here = Project.copied(folder / "here", dict(os.environ))
    alone = here.run("--cores", str(THREADS))
    tell(f"Here, {THREADS} threads: {alone:.0f} s, adapter {here.adapter[:12]}")
    with Cluster(folder / "slurm") as cluster:
        project = Project.copied(folder / "project", cluster.environment)
        seconds, jobs = project.run(*PROFILE), len(project.submitted())
        adapters = [here.adapter, project.adapter]
        tell(f"Slurm: {jobs} jobs, {seconds:.0f} s, adapter {project.adapter[:12]}")
        differs = project.train_on_two_nodes()
        shutil.rmtree(project.folder / RUN)
        shutil.rmtree(project.folder / RESULTS / "features")
        process = project.start(*PROFILE)
        disturbance = Disturbance(cluster, project, process)
        try:
            disturbance.disturb()
            project.finish(process)
        finally:
            if process.poll() is None:
                process.terminate()
                process.wait()
        adapters.append(project.adapter)
        again = len(project.submitted()) - jobs
    if not (project.folder / RUN / "report.html").is_file():
        fail("no report")
    if len(set(adapters)) > 1:
        fail(f"adapters differ: here, on Slurm, disturbed: {', '.join(digest[:12] for digest in adapters)}")
    return (
        f"make test-slurm: passed; {jobs} jobs in {seconds:.0f} s on Slurm, {alone:.0f} s here; survived in {again} "
        f"jobs: {', '.join(disturbance.survived)}; adapter {adapters[0][:12]} in all three runs; losses of two nodes "
        f"differ by {', '.join(f'{value:.2g} ({stage})' for stage, value in differs.items())} of themselves"
    )


def main() -> None:
    """Run the test and print its result last."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where to work and leave everything; by default temporary")
    folder = parser.parse_args().folder
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # so that the Slurm ends, too
    install()
    if folder:
        folder.mkdir(parents=True, exist_ok=True)
        tell(run(folder.resolve()))
        return
    with tempfile.TemporaryDirectory(prefix="slurm-") as place:
        tell(run(Path(place)))


if __name__ == "__main__":
    main()
