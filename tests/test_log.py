import subprocess
import sys

SCRIPT = """
import logging, sys, warnings
from mobilevideogpt.errors import InputError
from mobilevideogpt.log import log_to

log_to(sys.argv[1])
logging.getLogger("mobilevideogpt.room").info("a record")
logging.getLogger("mobilevideogpt.room").warning("a warning")
logging.getLogger("library").warning("of a library")
warnings.warn("old name", FutureWarning)
raise InputError("clips.json: entry 3 is empty")
"""


def test_libraries_warnings_go_to_the_log_alone_ours_and_errors_to_the_terminal_too(tmp_path):
    log = tmp_path / "logs/rule.log"
    done = subprocess.run([sys.executable, "-c", SCRIPT, str(log)], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and not done.stdout
    assert done.stderr == "WARNING: a warning\nERROR: clips.json: entry 3 is empty\n"
    for text in ("a record", "a warning", "of a library", "old name", "entry 3 is empty"):
        assert text in log.read_text()
    onto_a_full_disk = [sys.executable, "-c", SCRIPT, "/dev/full"]
    assert subprocess.run(onto_a_full_disk, capture_output=True, text=True, check=False).stderr == done.stderr
