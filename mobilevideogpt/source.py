"""What code a script consists of, as a digest: the script, the modules of the package that it imports, and libraries.

Snakemake sees neither a change in an imported module nor an upgraded library by itself, so rules pass this digest as a
parameter. Standard library only: it is computed each time the workflow is read.
"""

import ast
import hashlib
import json
import os
import sys
from functools import cache
from importlib import metadata
from pathlib import Path

from mobilevideogpt.files import write_json

PACKAGE = "mobilevideogpt"
# Import name -> distribution, for the libraries that shape results. Those that only present them (matplotlib, tqdm,
# jinja2, pandas) are left out on purpose: upgrading one must not retrain.
LIBRARIES = {
    "PIL": "pillow",
    "accelerate": "accelerate",
    "av": "av",
    "cv2": "opencv-python-headless",
    "deepspeed": "deepspeed",
    "numpy": "numpy",
    "pandas": "pandas",
    "peft": "peft",
    "rouge_score": "rouge-score",
    "sklearn": "scikit-learn",
    "torch": "torch",
    "transformers": "transformers",
}


def source_digest(*files: str | Path, root: str | Path = ".") -> str:
    """Digest files, and for those in Python whatever they import of the package, directly or not.

    Comments, docstrings and layout do not count; neither does the build of a library (``2.13.0+cpu`` is ``2.13.0``).

    Args:
        files: Scripts, modules or data files, relative to ``root``.
        root: The folder that holds the package.

    Returns:
        The digest, hexadecimal.
    """
    root = Path(root).resolve()
    memory = _Memory(root)
    pending, seen, libraries = [root / file for file in files], {}, set()
    while pending:
        file = pending.pop()
        if file in seen:
            continue
        seen[file], names = memory.read(file)
        pending.extend(path for name in names for path in _files_of(name, root))
        libraries |= {name.partition(".")[0] for name in names} & LIBRARIES.keys()
    memory.keep()
    parts = [f"{file.relative_to(root).as_posix()} {digest}" for file, digest in seen.items()]
    parts += [f"{LIBRARIES[name]} {_version(LIBRARIES[name])}" for name in libraries]
    return hashlib.sha256("\n".join(sorted(parts)).encode()).hexdigest()


class _Memory:
    """Digests and imports of files as they were read last, by date and size, where Snakemake keeps its own notes."""

    def __init__(self, root: Path):
        self.root, self.path = root, root / ".snakemake" / "source_digests.json"
        try:
            self.known = json.loads(self.path.read_text())
        except (OSError, ValueError):  # none yet, or spoiled: all are read anew
            self.known = {}
        self.changed = False

    def read(self, file: Path) -> tuple[str, list[str]]:
        """Return a file's digest and the names that it imports."""
        status = file.stat()
        name, stamp = str(file.relative_to(self.root)), [sys.version, status.st_mtime_ns, status.st_size]
        if self.known.get(name, [None])[0] != stamp:
            self.known[name] = [stamp, *_read(file)]
            self.changed = True
        return tuple(self.known[name][1:])

    def keep(self) -> None:
        """Write down what is new; not where Snakemake has no folder, or may not write."""
        if self.changed and self.path.parent.is_dir() and os.access(self.path.parent, os.W_OK):
            write_json(self.known, self.path)


@cache
def _version(distribution: str) -> str:
    try:
        return metadata.version(distribution).partition("+")[0]
    except metadata.PackageNotFoundError:
        return "absent"


def _read(file: Path) -> tuple[str, list[str]]:
    content = file.read_bytes()
    if file.suffix != ".py":
        return hashlib.sha256(content).hexdigest(), []
    tree = ast.parse(content, filename=str(file))
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            _drop_docstring(node)
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest(), sorted(names)


def _drop_docstring(node: ast.AST) -> None:
    match node.body:
        case [ast.Expr(value=ast.Constant(value=str())), *rest]:
            node.body = rest


@cache
def _files_of(name: str, root: Path) -> list[Path]:
    """Return the files that importing ``name`` runs: its own and the ``__init__.py`` of each package above it."""
    parts = name.split(".")
    if parts[0] != PACKAGE:
        return []
    folders = [root.joinpath(*parts[:n]) for n in range(1, len(parts) + 1)]
    candidates = [folder / "__init__.py" for folder in folders] + [folders[-1].with_suffix(".py")]
    return [path for path in candidates if path.is_file()]
