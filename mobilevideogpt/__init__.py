"""Fine-tuning and inference for Mobile-VideoGPT-0.5B.

The three public classes load on first use, so that importing a light part of the package (the manifest parser, say)
does not wait for torch.
"""

from importlib import import_module

__version__ = "0.1.0"

_PUBLIC = {
    "MobileVideoGPTConfig": "mobilevideogpt.model.configuration",
    "MobileVideoGPTForConditionalGeneration": "mobilevideogpt.model.modeling",
    "MobileVideoGPTProcessor": "mobilevideogpt.data.processor",
}
__all__ = list(_PUBLIC)


def __getattr__(name: str):
    if name in _PUBLIC:
        return getattr(import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
