"""The digest of a script's code: the script, the modules of the package that it imports, and the library versions.

Snakemake does not notice a changed module or an upgraded library. Rules therefore pass this digest as a parameter. The
module imports only the standard library, because the digest is computed each time Snakemake reads the workflow.
"""

import ast
import hashlib
import os
import sys
from functools import cache
from importlib import metadata
from pathlib import Path

from mobilevideogpt.errors import InputError
from mobilevideogpt.files import read_json, write_json

PACKAGE = "mobilevideogpt"
# Import name -> distribution, for the libraries that shape results. Libraries that only present results (matplotlib,
# tqdm, jinja2) are excluded, so that upgrading one does not retrain. So are libraries that a machine may lack (triton,
# liger-kernel, bitsandbytes), so that moving a project to another machine does not retrain. DeepSpeed counts where a
# run uses it (`training.digests.deepspeed_digest`).
LIBRARIES = {
    "PIL": "pillow",
    "accelerate": "accelerate",
    "av": "av",
    "cv2": "opencv-python-headless",
    "decord": "decord2",
    "numba": "numba",
    "numpy": "numpy",
    "pandas": "pandas",
    "peft": "peft",
    "rouge_score": "rouge-score",
    "sacrebleu": "sacrebleu",
    "scipy": "scipy",
    "sklearn": "scikit-learn",
    "torch": "torch",
    "transformers": "transformers",
}


def source_digest(*files: str | Path, root: str | Path = ".") -> str:
    """Digest files, and the modules of the package that the Python files among them import, directly or not.

    Comments, docstrings and layout do not count. Nor does the build of a library: ``2.13.0+cpu`` is ``2.13.0``.

    Args:
        files: Scripts, modules or data files, relative to ``root``.
        root: The folder that contains the package.

    Returns:
        The digest, hexadecimal.
    """
    root = Path(root).resolve()
    cached = _cache_of(root)
    pending, seen, libraries = [(root / file).relative_to(root).as_posix() for file in files], {}, set[str]()
    while pending:
        file = pending.pop()
        if file in seen:
            continue
        seen[file], names = cached.read(file)
        pending.extend(path for name in names for path in _files_of(name, root))
        libraries |= {name.partition(".")[0] for name in names} & LIBRARIES.keys()
    cached.save()
    parts = [f"{file} {digest}" for file, digest in seen.items()]
    parts += [f"{LIBRARIES[name]} {_version(LIBRARIES[name])}" for name in libraries]
    return hashlib.sha256("\n".join(sorted(parts)).encode()).hexdigest()


class _Cache:
    """Digests and imports of files by their date and size, cached in the folder of Snakemake."""

    def __init__(self, root: Path):
        self.root, self.path = root, root / ".snakemake" / "source_digests.json"
        try:
            self.known = read_json(self.path, shape={str: {"stamp": list, "digest": str, "imports": [str]}})
        except InputError:  # missing or damaged: every file is read again
            self.known = {}
        self.changed = False

    def read(self, name: str) -> tuple[str, list[str]]:
        """Return the digest of a file, named from the root, and the names that it imports."""
        status = os.stat(f"{self.root}/{name}")
        stamp = [sys.version, status.st_mtime_ns, status.st_size]
        if name not in self.known or self.known[name]["stamp"] != stamp:
            digest, names = _read(self.root / name)
            self.known[name] = {"stamp": stamp, "digest": digest, "imports": names}
            self.changed = True
        return self.known[name]["digest"], self.known[name]["imports"]

    def save(self) -> None:
        """Write new entries, unless Snakemake's folder is missing or read-only."""
        if self.changed and self.path.parent.is_dir() and os.access(self.path.parent, os.W_OK):
            write_json(self.known, self.path)
            self.changed = False


@cache
def _cache_of(root: Path) -> _Cache:
    """Return the cache of a root: the rules ask for two dozen digests, and its file is read for the first."""
    return _Cache(root)


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
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            _drop_docstring(node)
    return hashlib.sha256(ast.unparse(tree).encode()).hexdigest(), sorted(names)


def _drop_docstring(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> None:
    match node.body:
        case [ast.Expr(value=ast.Constant(value=str())), *rest]:
            node.body = rest


@cache
def _files_of(name: str, root: Path) -> list[str]:
    """Return the files that importing ``name`` runs: its own and the ``__init__.py`` of each package above it.

    Named from the root.
    """
    parts = name.split(".")
    if parts[0] != PACKAGE:
        return []
    folders = [root.joinpath(*parts[:n]) for n in range(1, len(parts) + 1)]
    candidates = [folder / "__init__.py" for folder in folders] + [folders[-1].with_suffix(".py")]
    return [path.relative_to(root).as_posix() for path in candidates if path.is_file()]
