"""The rooms of the package and the arrows between them, as ARCHITECTURE.md draws them."""

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "mobilevideogpt"
# The rooms that each room may import, beside the modules at the top of the package; lower rooms come first.
ARROWS = {
    "annotations": set(),
    "video": set(),
    "model": set(),
    "hub": {"annotations"},
    "data": {"annotations", "video", "model"},
    "verification": {"annotations", "data", "video"},
    "training": {"annotations", "data", "model"},
    "evaluation": {"annotations", "data", "model", "video"},
    "serving": {"annotations", "video", "data", "model", "hub", "training", "evaluation"},
    "sample": {"annotations", "video", "data", "model"},
}
# The modules at the top of the package are below all rooms, but for these, which the rules call.
TOP_ARROWS = {
    "configuration": {"annotations", "training"},
    "recorded_settings": {"training"},
    "__init__": {"model", "data", "serving"},
    "__main__": {"serving"},
}
SLOW = (
    "torch transformers peft accelerate deepspeed huggingface_hub av decord cv2 numpy pandas scipy sklearn matplotlib"
)


@cache
def imports() -> dict[str, set[str]]:
    """The modules of the package that each module imports, also within functions."""
    names = {module_name(file) for file in PACKAGE.rglob("*.py")}
    found: dict[str, set[str]] = {}
    for file in PACKAGE.rglob("*.py"):
        found[module_name(file)] = {name for name in imported_names(file) if name in names}
    return found


def module_name(file: Path) -> str:
    parts = file.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def imported_names(file: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def room_of(module: str) -> str | None:
    """The room of a module; None at the top of the package."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and (PACKAGE / parts[1]).is_dir() else None


def test_every_folder_of_the_package_is_a_room_of_the_table():
    folders = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()}
    assert folders == ARROWS.keys()


def test_the_arrows_point_down():
    rooms = list(ARROWS)
    assert all(rooms.index(below) < rooms.index(room) for room in rooms for below in ARROWS[room])


@pytest.mark.parametrize("room", ARROWS)
def test_a_room_imports_only_the_rooms_below_it(room):
    reached = {
        (module, other)
        for module, others in imports().items()
        if room_of(module) == room
        for other in others
        if room_of(other) not in {None, room, *ARROWS[room]}
    }
    assert not reached


def test_the_modules_at_the_top_import_no_room_but_where_the_table_says_so():
    for module, others in imports().items():
        if room_of(module) is None:
            allowed = TOP_ARROWS.get(module.rpartition(".")[2], set())
            assert {room for other in others if (room := room_of(other))} <= allowed, module


def test_no_modules_import_each_other_in_a_circle():
    waiting = {module: others - {module, "mobilevideogpt"} for module, others in imports().items()}
    while free := {module for module, others in waiting.items() if not others & waiting.keys()}:
        waiting = {module: others for module, others in waiting.items() if module not in free}
    assert not waiting, f"in or above a circle: {sorted(waiting)}"


def test_the_annotations_need_the_standard_library_only():
    allowed = set(sys.stdlib_module_names) | {"mobilevideogpt"}
    for file in (PACKAGE / "annotations").glob("*.py"):
        assert {name.partition(".")[0] for name in imported_names(file)} <= allowed, file


REFUSE = f"""
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {SLOW.split()!r}:
            raise SystemExit(f"imports {{name}}")
sys.meta_path.insert(0, Refuse())
"""


def test_the_rules_import_nothing_slow():
    texts = [path.read_text(encoding="utf-8") for path in [ROOT / "Snakefile", *sorted((ROOT / "rules").glob("*.smk"))]]
    lines = re.findall(r"^(?:from|import) mobilevideogpt.*$", "\n".join(texts), re.M)
    assert len(lines) > 5
    subprocess.run([sys.executable, "-c", REFUSE + "\n".join(lines)], check=True, cwd=ROOT)
    refused = subprocess.run(
        [sys.executable, "-c", REFUSE + "import torch"], capture_output=True, text=True, check=False
    )
    assert "imports torch" in refused.stderr, "the hook itself does not work"


def test_no_module_edits_the_import_path():
    for folder in ("mobilevideogpt", "workflow_scripts", "benchmarks"):
        for file in (ROOT / folder).rglob("*.py"):
            assert "sys.path" not in file.read_text(encoding="utf-8"), file


def test_the_architecture_page_names_every_room_and_only_files_that_exist():
    page = (ROOT / "ARCHITECTURE.md").read_text(encoding="utf-8")
    assert not [room for room in ARROWS if f"    {room}/ " not in page]
    named = re.findall(r"`([a-z_/]+\.(?:py|smk))`", page)
    assert len(named) > 20
    files = [name for name in named if name not in {"x.py", "x_worker.py"}]
    assert not [name for name in files if not (ROOT / name).is_file() and not (PACKAGE / name).is_file()]
