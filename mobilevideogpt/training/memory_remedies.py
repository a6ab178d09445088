"""Changes of the settings with which a training step is predicted to fit the free memory."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from mobilevideogpt.training.memory import Step, predicted_bytes
from mobilevideogpt.training.micro_batch import micro_batches

SHOWN = 3


def what_would_fit(step: Step, free_bytes: int, scale: float = 1.0) -> str:
    """Name the changes with which a step is predicted to fit, with their costs, the cheapest first.

    Args:
        step: That does not fit.
        free_bytes: Free memory.
        scale: Ratio of measured to predicted memory of ``step``.
    """
    fitting = []
    for cost, change in _changes(step):
        predicted = scale * predicted_bytes(_changed(step, change))
        if predicted <= free_bytes:
            values = ", ".join(f"{name}: {str(value).lower()}" for name, value in change.items())
            fitting.append(f"set finetune={{{values}}} ({predicted / 1e9:.1f} GB; {cost})")
    return "; or ".join([*fitting[:SHOWN], "end other programs that use the device's memory"])


def _changed(step: Step, change: dict[str, Any]) -> Step:
    stage = change.get("deepspeed", step.launch.deepspeed)
    launch = replace(step.launch, deepspeed=None if stage == "none" else stage)
    return replace(step.with_settings(**change), launch=launch)


def _changes(step: Step) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield changes that need less memory: the cost of each, and the settings."""
    settings, stage = step.settings, step.launch.deepspeed
    batches: list[dict[str, Any]] = [{}]
    for clips in micro_batches(step):
        if clips < step.micro_batch:
            smaller = step.with_micro_batch(clips).settings
            batches.append({name: getattr(smaller, name) for name in ("batch_size", "gradient_accumulation_steps")})
    least = batches[-1]
    if settings.method == "full" and stage and step.launch.processes == 1:
        yield "the same result", {"deepspeed": "none"}
    for batch in batches[1:]:
        yield "the same result, somewhat slower", batch
    if not settings.gradient_checkpointing:
        for batch in batches:
            slower = "the same result, slower: computes activations twice, without CUDA graphs"
            yield slower, batch | {"gradient_checkpointing": True}
        least = least | {"gradient_checkpointing": True}
    if settings.precision == "fp32":
        yield "coarser arithmetic, but faster", least | {"precision": "bf16"}
    if settings.method == "full":
        if settings.precision != "fp16":  # DeepSpeed would train the weights in fp16
            for batch in [{}, least] if least else [{}]:
                yield "the same result, much slower: most stays in main memory", batch | {"deepspeed": "zero3_offload"}
        yield "trains fewer weights", {"method": "lora"}
        return
    yield "trains fewer weights", least | {"lora_r": max(1, settings.lora_r // 4)}
    if settings.quantization == "none" and "zero3" not in (stage or ""):
        cost = "rounds frozen weights to 4 bits; needs bitsandbytes: pip install -e '.[nf4]'"
        yield cost, least | {"quantization": "nf4"}
