"""The rules import this room whenever the workflow is read, so it loads nothing but the standard library."""

import subprocess
import sys
from pathlib import Path

import mobilevideogpt.annotations

ROOM = Path(mobilevideogpt.annotations.__file__).parent
CODE = """
import importlib, sys

class Refusing:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in sys.stdlib_module_names and top != "mobilevideogpt":
            raise ImportError(f"{name} is not in the standard library")

sys.meta_path.insert(0, Refusing())
for name in sys.argv[1:]:
    importlib.import_module(name)
rooms = {name.split(".")[1] for name in sys.modules if name.startswith("mobilevideogpt.")}
print(*sorted(rooms))
"""


def test_the_room_imports_the_standard_library_and_no_other_room():
    modules = [f"mobilevideogpt.annotations.{file.stem}" for file in ROOM.glob("*.py") if file.stem != "__init__"]
    done = subprocess.run([sys.executable, "-c", CODE, *modules], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    top = ["auto_classes", "errors", "files", "interruption", "json_shape", "paths", "segments", "wording"]
    assert done.stdout.split() == sorted(["annotations", *top])
