"""Print each golden of the original code and how far this package is from it: ``python benchmarks/parity.py``."""

import subprocess
import sys
from pathlib import Path

if __name__ == "__main__":
    root = Path(__file__).parents[1]
    sys.exit(subprocess.run([sys.executable, "-m", "tests.parity.measure"], cwd=root, check=False).returncode)
