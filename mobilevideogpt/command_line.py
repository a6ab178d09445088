"""The command that was typed, and others like it to type next. Standard library only."""

import os
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

FILES, VALUES = ("--configfile", "--configfiles"), ("--config", "-C")
# Values of one command, which the next does not need.
ONCE = ("video", "exercise", "prompt", "precision", "runs", "repo_id", "public", "dry_run", "layout")
MAKE_TARGETS = ("finetune", "report", "verify")


@dataclass(frozen=True)
class CommandLine:
    """How this Snakemake was called.

    Attributes:
        program: What to type for Snakemake: its name, or its path where the shell does not find it.
        files: Files after ``--configfile``.
        values: Settings after ``--config``, without those of one command.
        by_make: Whether ``make`` called it.
    """

    program: str = "snakemake"
    files: tuple[str, ...] = ()
    values: tuple[str, ...] = ()
    by_make: bool = False

    @classmethod
    def of_this_process(cls, argv: Sequence[str] | None = None, environ: Mapping[str, str] = os.environ):
        """Read the arguments and the environment of this process."""
        argv = sys.argv[1:] if argv is None else argv
        files, values = _after(FILES, argv), _after(VALUES, argv)
        kept = tuple(value for value in values if value.partition("=")[0] not in ONCE)
        return cls(_program(environ), files, kept, "MAKELEVEL" in environ)

    def command(self, target: str, *values: str) -> str:
        """Return a command, quoted for a shell and in backticks, that makes ``target`` with the same settings."""
        if self.by_make and target in MAKE_TARGETS and not (self.files or self.values or values):
            return f"`make {target}`"
        words = [target]
        if self.files:
            words += ["--configfile", *self.files]
        if given := [*values, *self.values]:
            words += ["--config", *given]
        return f"`{self.program} {shlex.join(words)}`"


def _after(options: Sequence[str], argv: Sequence[str]) -> tuple[str, ...]:
    """Return the arguments of the last of these options; Snakemake takes all up to the next option."""
    found: list[str] = []
    collecting = False
    for argument in argv:
        name, equals, value = argument.partition("=")
        if argument in options:
            found, collecting = [], True
        elif equals and name in options:
            found, collecting = [value], False
        elif argument.startswith("-"):
            collecting = False
        elif collecting:
            found.append(argument)
    return tuple(found)


def _program(environ: Mapping[str, str]) -> str:
    """Return ``snakemake`` if a shell finds that of this environment, else the path of the latter."""
    beside = Path(sys.executable).parent / "snakemake"
    if shutil.which("snakemake", path=environ.get("PATH")) == str(beside) or not beside.exists():
        return "snakemake"
    return os.path.relpath(beside) if beside.is_relative_to(Path.cwd()) else str(beside)
