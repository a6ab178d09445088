"""Print each golden of the original code and how far this package is from it: ``python benchmarks/parity.py``."""

import subprocess
import sys
from pathlib import Path

if __name__ == "__main__":
    script = Path(__file__).parents[1] / "tests/parity/measure.py"
    sys.exit(subprocess.run([sys.executable, str(script)], check=False).returncode)
