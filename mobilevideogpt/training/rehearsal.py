"""Two training steps on random features, and the memory that they took; `preflight` runs this as a process.

Its argument is JSON (see `preflight.rehearse`); its last line on standard output is ``{"peak_bytes": ...}``.
"""

import json
import sys

import torch

from mobilevideogpt.data.features import PIXELS, with_features
from mobilevideogpt.model.modeling import load_encoders
from mobilevideogpt.training.arguments import TrainingSettings
from mobilevideogpt.training.run import load_for_training, peak_memory_bytes
from mobilevideogpt.training.trainer import autocast, parameter_groups

SUPERVISED = 64  # of the text tokens, at least


def random_batch(config, n: int, text_tokens: int, device: str) -> dict[str, torch.Tensor]:
    """Return a batch of ``n`` clips of the shapes that training sees."""
    answer = min(text_tokens, max(SUPERVISED, text_tokens // 2))
    input_ids = torch.randint(
        0, min(config.vocab_size, config.video_token_id), (n, config.num_visual_tokens + text_tokens)
    )
    input_ids[:, : config.num_visual_tokens] = config.video_token_id
    labels = torch.full_like(input_ids, -100)
    labels[:, -answer:] = input_ids[:, -answer:]
    batch = {"input_ids": input_ids, "labels": labels, "attention_mask": torch.ones_like(input_ids)}
    batch |= {name: torch.randn(n, *shape) for name, shape in config.feature_shapes.items()}
    return {name: tensor.to(device) for name, tensor in batch.items()}


def main() -> None:
    """Load, train two steps (Adam's moments exist from the second), tell the peak."""
    request = json.loads(sys.argv[1])
    settings = TrainingSettings(**request["settings"])
    device = "cuda" if torch.cuda.is_available() else "cpu"
    others = torch.cuda.mem_get_info()[1] - torch.cuda.mem_get_info()[0] if device == "cuda" else 0
    model = load_for_training(settings, request["base"], request["video_encoder"], request["image_encoder"]).to(device)
    config = model.config
    if settings.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    if settings.precision == "bf16":
        autocast(model, device)
    base = (request["base"], request["video_encoder"], request["image_encoder"])
    encoders = load_encoders(*base).to(device) if request["encode"] else None
    rates = {"lora": settings.learning_rate, "projectors": settings.projector_learning_rate}
    optimizer = torch.optim.AdamW(parameter_groups(model, rates, settings.weight_decay), fused=True)
    model.train()
    batch = random_batch(config, settings.batch_size, request["text_tokens"], device)
    for _ in range(2):
        if encoders:
            shape = (settings.batch_size, config.num_frames, 3, config.image_size, config.image_size)
            pixels = {name: torch.randn(shape, device=device) for name in PIXELS}
            batch |= with_features(pixels, encoders, torch.float32)
        with torch.autocast(device, dtype=torch.float16, enabled=settings.precision == "fp16"):
            loss = model(**batch, use_cache=False).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    peak = peak_memory_bytes()
    if device == "cuda":  # what the driver and the libraries take beside torch's own
        free, total = torch.cuda.mem_get_info()
        peak += max(0, total - free - others - torch.cuda.memory_reserved())
    print(json.dumps({"peak_bytes": peak}))


if __name__ == "__main__":
    main()
