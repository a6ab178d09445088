"""The project called from another folder: code and defaults come from the project, data and results stay there."""

import subprocess
import sys

import pytest

CALLS = {"snakefile": ("-s", "../project/Snakefile"), "module": ()}
MODULE = """
module videogpt:
    snakefile: "../project/Snakefile"

use rule * from videogpt
"""


@pytest.mark.parametrize("how", CALLS)
def test_another_folder_plans_the_whole_sample(without_data, tmp_path, how):
    folder = tmp_path / "elsewhere"
    folder.mkdir()
    if how == "module":
        (folder / "Snakefile").write_text(MODULE)
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--cores", "1", *CALLS[how]]
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(without_data.folder)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "results/sample/finetune/report.html" in done.stdout + done.stderr
    assert {path.name for path in folder.iterdir()} <= {"Snakefile", ".snakemake"}  # nothing is written but memory
