"""Registers the model with the Auto classes of transformers when these are imported. Standard library only.

Importing transformers here would slow down whoever needs a light part of the package, so an import hook waits for it.
"""

import sys
from importlib import import_module
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

MODEL = "mobilevideogpt.model.modeling"
PROCESSING, PROCESSOR = "transformers.models.auto.processing_auto", "mobilevideogpt.data.processor"
# A module of transformers > ours, which registers its class at its end.
REGISTERED_BY = {
    "transformers.models.auto.configuration_auto": "mobilevideogpt.model.configuration",
    "transformers.models.auto.auto_factory": "mobilevideogpt.model.configuration",
    "transformers.models.auto.modeling_auto": MODEL,
    PROCESSING: PROCESSOR,
}


def _transformers_is_being_imported(but: str) -> bool:
    """Whether a module of transformers other than this one is incomplete, as its import has not ended."""
    modules = [module for name, module in sys.modules.items() if name.startswith("transformers.") and name != but]
    return any(getattr(getattr(module, "__spec__", None), "_initializing", False) for module in modules)


class _Registering(Loader):
    """Loads a module as its own loader does, and then imports the module that registers with it."""

    def __init__(self, loader: Loader):
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        # Within the import of another one of theirs, which is incomplete, it waits for that one, or for MODEL.
        if not _transformers_is_being_imported(but=module.__name__):
            _register()


class _Finder(MetaPathFinder):
    def find_spec(self, fullname, path=None, target=None):
        if fullname not in REGISTERED_BY and fullname != MODEL:
            return None
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is not None and spec.loader is not None:
            spec.loader = _Registering(spec.loader)
        return spec


def register_on_import() -> None:
    """Register with the Auto classes that are imported, and with the others once they are."""
    sys.meta_path.insert(0, _Finder())
    _register()


def _register() -> None:
    for theirs, ours in REGISTERED_BY.items():
        if theirs in sys.modules and ours not in sys.modules:  # else it is being imported, and registers itself
            import_module(ours)
    # AutoProcessor brings all networks, so PROCESSOR does not import it, and may have been there before it.
    if PROCESSING in sys.modules and (register := getattr(sys.modules[PROCESSOR], "register_processor", None)):
        register()
