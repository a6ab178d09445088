"""Fine-tuning and inference for Mobile-VideoGPT-0.5B.

The three public classes load when the first of them is used, so that importing a light part of the package (the
manifest parser, say) does not wait for torch; from then on transformers' Auto classes know them.
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
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from transformers import AutoProcessor

    classes = {public: getattr(import_module(module), public) for public, module in _PUBLIC.items()}
    # Released folders name no processor, so it goes by the configuration, which the processor's module must not import.
    AutoProcessor.register(classes["MobileVideoGPTConfig"], classes["MobileVideoGPTProcessor"], exist_ok=True)
    globals().update(classes)
    return classes[name]
