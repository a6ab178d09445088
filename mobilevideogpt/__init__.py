"""Fine-tuning and inference for Mobile-VideoGPT-0.5B.

The three public classes load on first use, so that importing a light part of the package, for example the manifest
parser, does not wait for torch. The first use also registers them with the Auto classes of transformers.
"""

from importlib import import_module

__version__ = "0.2.0.dev0"

_PUBLIC = {
    "MobileVideoGPTConfig": "mobilevideogpt.model.configuration",
    "MobileVideoGPTForConditionalGeneration": "mobilevideogpt.model.modeling",
    "MobileVideoGPTProcessor": "mobilevideogpt.data.processor",
}
__all__ = list(_PUBLIC)  # pyright: ignore[reportUnsupportedDunderAll]  # they load on first use


def __getattr__(name: str):
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from transformers import AutoProcessor

    classes = {public: getattr(import_module(module), public) for public, module in _PUBLIC.items()}
    # Released folders name no processor, so AutoProcessor finds the class by the configuration.
    AutoProcessor.register(classes["MobileVideoGPTConfig"], classes["MobileVideoGPTProcessor"], exist_ok=True)
    globals().update(classes)
    return classes[name]
