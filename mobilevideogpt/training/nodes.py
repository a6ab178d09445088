"""The commands that start torch's launcher on several nodes: by srun under Slurm, else by ssh on listed hosts."""

import os
import shlex
import shutil
import socket
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mobilevideogpt.errors import InputError
from mobilevideogpt.processes import ENDS_WITH_STDIN, LAUNCHED_BY
from mobilevideogpt.training.plan import Launch

# What ssh hands on of the environment, as arguments that others on the host can read: no token and no key.
HANDED_ON = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "OMP_NUM_THREADS")
HANDED_ON_PREFIXES = ("NCCL_", "GLOO_", "TORCH_", "TRITON_")
# A lost node is told once, and not by each layer of torch.
DEFAULTS = {"OMP_NUM_THREADS": "1", "TORCH_CPP_LOG_LEVEL": "ERROR"}
LOST_NODE = 112  # exit status of a launcher that lost the others; one of these says why


@dataclass(frozen=True)
class NodeCommand:
    """A command that starts launchers; ``ends_with_stdin`` if they end with its standard input, not by signals."""

    words: list[str]
    ends_with_stdin: bool


def check_nodes(nodes: int, hostfile: str | None, environ: Mapping[str, str] = os.environ) -> list[str]:
    """Return the hosts of the file, one for each node; none where Slurm starts the processes.

    Raises:
        InputError: If there is neither Slurm nor a file with as many hosts.
    """
    if nodes == 1:
        return []
    if hostfile is None:
        if "SLURM_JOB_ID" in environ and shutil.which("srun"):
            return []
        raise InputError(
            f"finetune.nodes: {nodes} nodes, but this is not a job of Slurm and there is no finetune.hostfile; use "
            "`--workflow-profile profiles/slurm`, or set finetune.hostfile to a file with a host name a line"
        )
    try:
        lines = Path(hostfile).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"finetune.hostfile: {hostfile} cannot be read ({error}); write a host name a line") from None
    hosts = [words[0] for line in lines if (words := line.partition("#")[0].split())]  # `slots=8` may follow a name
    if len(hosts) < nodes:
        raise InputError(
            f"finetune.hostfile: {hostfile} names {len(hosts)} hosts, but finetune.nodes is {nodes}; add the others"
        )
    return hosts[:nodes]


def node_commands(launch: Launch, command: list[str], hostfile: str | None) -> list[NodeCommand]:
    """Return the commands that start a training on all nodes, which meet at the first one.

    Args:
        launch: With several nodes.
        command: The script and its arguments.
        hostfile: See `check_nodes`.

    Raises:
        InputError: See `check_nodes`.
    """
    hosts = check_nodes(launch.nodes, hostfile)
    first = hosts[0].rpartition("@")[2] if hosts else socket.gethostname()
    port = _free_port()
    options = [f"--nnodes={launch.nodes}", f"--nproc-per-node={launch.on_each_node}", "--rdzv-backend=c10d"]
    options += [f"--rdzv-endpoint={first}:{port}", f"--rdzv-id={port}"]
    words = [sys.executable, "-m", "mobilevideogpt.training.launch_worker", *options, "--", *command]
    if not hosts:
        return [NodeCommand(_by_srun(launch.nodes, words), ends_with_stdin=False)]
    return [NodeCommand(_by_ssh(host, words), ends_with_stdin=True) for host in hosts]


def _by_srun(nodes: int, words: list[str]) -> list[str]:
    threads = os.environ.get("OMP_NUM_THREADS")
    cpus = [f"--cpus-per-task={threads}"] if threads else []
    everything = [f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1", "--mem=0", "--cpu-bind=none"]
    # A launcher of a node reads no number of a process on another one.
    environment = ["env", "-u", LAUNCHED_BY]
    return ["srun", *everything, *cpus, "--kill-on-bad-exit=1", *environment, *words]


def _by_ssh(host: str, words: list[str]) -> list[str]:
    values = {name: os.environ[name] for name in os.environ if name in HANDED_ON or name.startswith(HANDED_ON_PREFIXES)}
    values = {**DEFAULTS, **values, ENDS_WITH_STDIN: "1"}
    environment = [f"{name}={value}" for name, value in values.items()]
    there = shlex.join(["env", "-u", LAUNCHED_BY, *environment, *words])
    return ["ssh", "-o", "BatchMode=yes", "--", host, f"cd {shlex.quote(os.getcwd())} && exec {there}"]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return probe.getsockname()[1]
