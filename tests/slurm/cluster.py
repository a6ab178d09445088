"""A Slurm of two nodes on this machine, below one folder: controller, nodes and munge, which end with it.

Needs root, and the packages of `PACKAGES`. Nothing outside of the folder is written: the conf is named by commands of
the folder, which stand in front of the path, since Slurm's own jobs lose SLURM_CONF.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
from contextlib import ExitStack, suppress
from pathlib import Path

import psutil

PACKAGES = ("slurmctld", "slurmd", "slurm-client", "munge")
DAEMONS = ("munged", "slurmctld", "slurmd")
COMMANDS = ("sbatch", "squeue", "srun", "scancel", "scontrol", "sinfo", "sacct")
NODES = ("node1", "node2")
CONF = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmUser=root
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool.%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
GresTypes=gpu
MpiDefault=none
ReturnToService=2
SlurmdTimeout=30
MinJobAge=300
JobRequeue=1
KillWait=30
SlurmdParameters=config_overrides
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""
NODE = (
    "NodeName={name} NodeHostname=localhost NodeAddr=127.0.0.1 Port={port} CPUs=2 CoresPerSocket=2 RealMemory=100000 "
    "Gres=gpu:1\n"
)


def missing() -> list[str]:
    """Return what this machine lacks to run a Slurm of its own."""
    lacks = [] if os.geteuid() == 0 else ["root's rights"]
    return lacks + [name for name in (*DAEMONS, "sbatch") if not find(name)]


def find(name: str) -> str | None:
    """Return the path of a command, also of one in a folder of the system that few have in their path."""
    return shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin:/usr/local/sbin")


class Cluster:
    """The Slurm; as a context manager, it starts and ends it.

    Attributes:
        environment: With its commands at the front of the path.
    """

    def __init__(self, folder: Path):
        self.folder = folder
        self.daemons: dict[str, subprocess.Popen] = {}
        self.environment = {**os.environ, "PATH": f"{folder}/bin:{os.environ['PATH']}"}

    def __enter__(self) -> "Cluster":
        with ExitStack() as stack:
            stack.callback(self.end)
            self._write_files()
            self._start("munged", "--foreground", "--force", *self._munge_options())
            self._wait(lambda: (self.folder / "munge.socket").exists(), "munge")
            self._start("slurmctld", "-D", "-c", "-f", str(self.folder / "slurm.conf"))
            for node in NODES:
                self.start_node(node)
            self._wait(lambda: self.tell("sinfo", "-h", "-t", "idle", "-o", "%D") == str(len(NODES)), "nodes")
            stack.pop_all()
        return self

    def __exit__(self, *error) -> None:
        self.end()

    def _write_files(self) -> None:
        for name in ("state", "bin"):
            (self.folder / name).mkdir(parents=True)
        controller, *ports = free_ports(1 + len(NODES))
        host = socket.gethostname().partition(".")[0]
        conf = CONF.format(folder=self.folder, host=host, controller=controller)
        gres = ""
        for node, port in zip(NODES, ports, strict=True):
            (self.folder / f"spool.{node}").mkdir()
            conf += NODE.format(name=node, port=port)
            os.mknod(self.folder / f"gpu.{node}", 0o020666, os.makedev(1, 3))  # a second /dev/null is a GPU to Slurm
            gres += f"NodeName={node} AutoDetect=off Name=gpu File={self.folder}/gpu.{node}\n"
        (self.folder / "slurm.conf").write_text(conf)
        (self.folder / "gres.conf").write_text(gres)
        (self.folder / "cgroup.conf").write_text("IgnoreSystemd=yes\n")
        (self.folder / "munge.key").write_bytes(os.urandom(128))
        (self.folder / "munge.key").chmod(0o600)
        self.folder.chmod(0o755)  # munge refuses a folder that others can write
        for name in COMMANDS:
            command = self.folder / "bin" / name
            command.write_text(f'#!/bin/sh\nSLURM_CONF={self.folder}/slurm.conf exec {find(name)} "$@"\n')
            command.chmod(0o755)

    def _munge_options(self) -> list[str]:
        files = {"socket": "socket", "key-file": "key", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
        return [f"--{option}={self.folder}/munge.{name}" for option, name in files.items()]

    def _start(self, program: str, *arguments: str, name: str = "") -> None:
        log = open(self.folder / f"{name or program}.out", "ab")  # noqa: SIM115 (the daemon's)
        self.daemons[name or program] = subprocess.Popen(
            [find(program) or program, *arguments], stdout=log, stderr=log, start_new_session=True
        )
        log.close()

    def start_node(self, node: str) -> None:
        """Start the daemon of a node."""
        self._start("slurmd", "-D", "-N", node, "-f", str(self.folder / "slurm.conf"), name=node)

    def kill_node(self, node: str) -> None:
        """Kill a node's daemon and all that its jobs started, as a lost machine would."""
        jobs = self.tell("squeue", "-h", "-w", node, "-t", "running", "-o", "%A").split()
        self.daemons[node].kill()
        self.daemons[node].wait()
        for process in self._processes_of(jobs):
            with suppress(psutil.Error):
                process.kill()

    def _processes_of(self, jobs: list[str]) -> list[psutil.Process]:
        """Return the processes of jobs: those of Slurm, and what these started."""
        found = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                command = " ".join(process.cmdline())
                ours = f"{self.folder}/bin:" in process.environ().get("PATH", "")
                if any(command.startswith(f"slurmstepd: [{job}.") for job in jobs) or (
                    ours and process.environ().get("SLURM_JOB_ID") in jobs
                ):
                    found.append(process)
        return found

    def freeze(self, job: str, command: str) -> None:
        """Stop, as by SIGSTOP, the processes of a job whose command line contains a text."""
        for process in self._processes_of([job]):
            with suppress(psutil.Error):
                if command in " ".join(process.cmdline()):
                    process.send_signal(signal.SIGSTOP)

    def tell(self, *command: str) -> str:
        """Run a command of Slurm and return what it prints; empty if it fails."""
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=False)
        return done.stdout.strip() if done.returncode == 0 else ""

    def _wait(self, is_there, what: str, seconds: float = 60) -> None:
        deadline = time.monotonic() + seconds
        while not is_there():
            if time.monotonic() > deadline or any(daemon.poll() is not None for daemon in self.daemons.values()):
                logs = "\n".join(file.read_text(errors="replace")[-2000:] for file in self.folder.glob("*.out"))
                raise RuntimeError(f"the test's Slurm does not start ({what}):\n{logs}")
            time.sleep(0.2)

    def end(self) -> None:
        """End what was started: jobs first, then the daemons."""
        jobs = self.tell("squeue", "-h", "-o", "%A").split()
        if jobs:
            self.tell("scancel", *jobs)
            time.sleep(2)
        for process in self._processes_of(jobs):
            with suppress(psutil.Error):
                process.kill()
        for daemon in reversed(self.daemons.values()):
            daemon.terminate()
            try:
                daemon.wait(10)
            except subprocess.TimeoutExpired:
                daemon.kill()
                daemon.wait()


def free_ports(count: int) -> list[int]:
    """Return ports on which nothing listens now."""
    with ExitStack() as stack:
        probes = [stack.enter_context(socket.socket()) for _ in range(count)]
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
