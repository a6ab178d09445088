"""Fine-tuning and inference for Mobile-VideoGPT-0.5B.

The public names load on first use, so that importing a light part of the package, for example the manifest parser, does
not wait for torch. The Auto classes of transformers know the model as soon as both packages are imported.
"""

from importlib import import_module

from mobilevideogpt.auto_classes import register_on_import
from mobilevideogpt.interruption import end_quietly_in_jobs

__version__ = "0.2.0.dev0"

_PUBLIC = {
    "MobileVideoGPTConfig": "mobilevideogpt.model.configuration",
    "MobileVideoGPTForConditionalGeneration": "mobilevideogpt.model.modeling",
    "MobileVideoGPTProcessor": "mobilevideogpt.data.processor",
    "load": "mobilevideogpt.serving.pipeline",
}
__all__ = list(_PUBLIC)  # pyright: ignore[reportUnsupportedDunderAll]  # they load on first use

register_on_import()
end_quietly_in_jobs()


def __getattr__(name: str):
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = getattr(import_module(_PUBLIC[name]), name)
    return globals()[name]
