"""Samples a second and peak memory of a training step: upstream's set-up, ours within 8 GiB, ours with all memory.

    python benchmarks/training.py [--steps 10] [--profile] [--tiny] [--json FILE]

Random weights of the released geometry, 2,402 visual and 60 text tokens a clip, 24 of them supervised, four clips a
step, LoRA r 64 on all linear layers of the language model, both projectors trained. Upstream's set-up decodes (8
processes) and encodes the clips in every step, computes logits at every position and checkpoints activations with
PEFT's own modules; ours reads cached features. All set-ups run in turn in one process. ``--tiny`` runs the same on a
CPU in seconds.
"""

import argparse
import gc
import json
import statistics
import sys
import time
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import torch
from features import CLIP  # in this folder
from torch.utils.data import DataLoader, Dataset

from mobilevideogpt.data.processor import MobileVideoGPTProcessor
from mobilevideogpt.model.adapter import add_lora
from mobilevideogpt.model.configuration import MobileVideoGPTConfig
from mobilevideogpt.model.kernels.fused import fuse
from mobilevideogpt.model.modeling import MobileVideoGPTForConditionalGeneration, shifted, supervised_positions
from mobilevideogpt.training.cuda_graphs import capture_passes
from mobilevideogpt.training.model_setup import autocast
from mobilevideogpt.training.optimizer import parameter_groups

CLIPS, TEXT, SUPERVISED = 4, 60, 24  # of a step; tokens of a clip
GIB = 2**30
TINY = {"hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 2, "num_attention_heads": 2}
TINY |= {"num_key_value_heads": 1, "vocab_size": 256, "bos_token_id": 1, "eos_token_id": 2, "video_token_id": 3}
TINY |= {"video_hidden_size": 32, "video_num_layers": 1, "image_hidden_size": 64, "image_num_layers": 2}
TINY |= {"image_intermediate_size": 64, "image_num_heads": 2}


class Decoded(Dataset):
    """One clip many times, decoded and resized each time."""

    def __init__(self):
        self.reader = MobileVideoGPTProcessor(SimpleNamespace(get_vocab=dict))  # no text is encoded here

    def __len__(self) -> int:
        return 1_000_000

    def __getitem__(self, number: int) -> dict[str, torch.Tensor]:
        return self.reader.encode_video(str(CLIP))


class Bench:
    """One machine, one geometry."""

    def __init__(self, config: MobileVideoGPTConfig, device: str, steps: int):
        self.config, self.device, self.steps = config, device, steps
        self.gpu = device == "cuda"
        self.length = config.num_visual_tokens + TEXT
        c, layers = config, config.num_hidden_layers
        kv = c.hidden_size // c.num_attention_heads * c.num_key_value_heads
        weights = layers * (2 * c.hidden_size**2 + 2 * c.hidden_size * kv + 3 * c.hidden_size * c.intermediate_size)
        # Per clip: products with the frozen weights, and causal attention; the backward pass to LoRA costs the same.
        attention = layers * 2 * 2 * self.length**2 * c.hidden_size / 2
        self.useful = 2 * (2 * weights * self.length + attention)

    def model(self, encoders: bool):
        """Make random weights in bfloat16, with LoRA and projectors in float32."""
        torch.manual_seed(0)
        with torch.device(self.device):
            model = MobileVideoGPTForConditionalGeneration(self.config).to(torch.bfloat16)
        model.config.use_cache = False
        if not encoders:
            model.model.vision_tower = model.model.image_vision_tower = None
        model = add_lora(model, r=64, lora_alpha=128, lora_dropout=0.05).train()
        autocast(model, self.device)
        return model

    def text(self, clips: int) -> dict[str, torch.Tensor]:
        """Draw ids and labels of a micro-batch."""
        ids = torch.randint(4, 256, (clips, self.length), device=self.device)
        ids[:, 14 : 14 + self.config.num_visual_tokens] = self.config.video_token_id
        labels = torch.full_like(ids, -100)
        labels[:, -SUPERVISED:] = ids[:, -SUPERVISED:]
        return {"input_ids": ids, "labels": labels}

    def features(self, clips: int) -> dict[str, torch.Tensor]:
        """Draw cached features of a micro-batch."""
        shapes = self.config.feature_shapes
        return {k: torch.randn(clips, *s, device=self.device).to(torch.float16) for k, s in shapes.items()}

    def run(self, name: str, *, upstream=False, checkpointing=False, micro=CLIPS, fused=False, graphs=False) -> dict:
        """Time steps of ``CLIPS`` clips."""
        gc.collect()  # the set-up before this one
        if self.gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        model = self.model(encoders=upstream)
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
            model.enable_input_require_grads()
        if fused:
            fuse(model)
        if graphs:
            capture_passes(model)
        rates = {"lora": 1e-4, "projectors": 2e-5}
        optimizer = torch.optim.AdamW(parameter_groups(model, rates, 0.0), fused=True)
        trained = [p for group in optimizer.param_groups for p in group["params"]]
        texts = [self.text(micro) for _ in range(CLIPS // micro)]
        features = [self.features(micro) for _ in texts]
        clips = iter(DataLoader(Decoded(), micro, num_workers=8, pin_memory=self.gpu)) if upstream else None
        if upstream:
            more = {"logits_to_keep": self.length, "attention_mask": torch.ones_like(texts[0]["input_ids"])}
        else:  # as `Collate` does
            more = {"logits_to_keep": supervised_positions(shifted(texts[0]["labels"]))}
        items = torch.tensor(CLIPS * SUPERVISED, device=self.device)

        def step():
            for text, cached in zip(texts, features, strict=True):
                video = cached
                if upstream:
                    video = {k: t.to(self.device, non_blocking=True) for k, t in next(clips).items()}
                model(**text, **video, **more, num_items_in_batch=items).loss.backward()
            torch.nn.utils.clip_grad_norm_(trained, 1.0)
            optimizer.step()
            model.zero_grad()

        for _ in range(3):
            step()
        seconds = []
        for _ in range(self.steps):
            self.wait()
            started = time.perf_counter()
            step()
            self.wait()
            seconds.append(time.perf_counter() - started)
        rate = CLIPS / statistics.median(seconds)
        reserved, used = (torch.cuda.max_memory_reserved() / GIB, used_memory() / GIB) if self.gpu else (0, 0)
        found = {"name": name, "rate": rate, "reserved": reserved, "used": used, "step": step}
        teraflops = rate * self.useful / 1e12
        print(f"{name:44} {rate:8.2f} samples/s {reserved:8.2f} {used:8.2f} GiB {teraflops:8.1f} TFLOP/s", flush=True)
        return found

    def wait(self) -> None:
        if self.gpu:
            torch.cuda.synchronize()

    def ceiling(self) -> float:
        """Measure the operations a second of a large product in bfloat16."""
        a = torch.randn(8192, 8192, device=self.device, dtype=torch.bfloat16)
        seconds = []
        for _ in range(20):
            self.wait()
            started = time.perf_counter()
            a @ a
            self.wait()
            seconds.append(time.perf_counter() - started)
        return 2 * 8192**3 / statistics.median(seconds)


def used_memory() -> int:
    """Return the memory of this GPU that all processes use, as nvidia-smi counts it."""
    free, total = torch.cuda.mem_get_info()
    return total - free


def main() -> None:
    """Parse the command line, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--profile", action="store_true", help="print the kernels of the fastest set-up by time")
    parser.add_argument("--tiny", action="store_true", help="a small geometry, for a CPU")
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    gpu = device == "cuda"
    if not gpu and not options.tiny:
        sys.exit("no GPU: only --tiny ends within the hour")
    bench = Bench(MobileVideoGPTConfig(**(TINY if options.tiny else {})), device, options.steps)
    print(f"{torch.cuda.get_device_name() if gpu else 'CPU'}, torch {torch.__version__}")
    print(f"{'':44} {'':18} reserved  in use; useful operations, without recomputation")
    upstream = bench.run("upstream's set-up", upstream=True, checkpointing=True)
    del upstream["step"]
    total = torch.cuda.get_device_properties(0).total_memory if gpu else 1
    small = partial(bench.run, fused=True, micro=2, graphs=gpu)
    with memory_limited_to(8 * GIB / total) if gpu else nullcontext():
        ours = small("ours, within 8 GiB: two clips, twice")
        del ours["step"]
    free = bench.run("ours, all memory: four clips at once", fused=True, graphs=gpu)
    sides = {"upstream": upstream, "within 8 GiB": ours, "all memory": free}
    figures = {side: {key: found[key] for key in ("rate", "reserved", "used")} for side, found in sides.items()}
    for name, found in (("within 8 GiB", ours), ("all memory", free)):
        print(f"{name}: {found['rate'] / upstream['rate']:.2f} times upstream's samples/s", end="")
        print(f", {found['reserved'] / upstream['reserved']:.2f} of its memory" if gpu else "")
    if gpu:
        ceiling = bench.ceiling()
        share = free["rate"] * bench.useful / ceiling
        figures["share"], figures["ceiling"] = share, ceiling
        print(f"all memory: {share:.1%} of {ceiling / 1e12:.0f} TFLOP/s, the ceiling of bf16 products here")
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")
    if options.profile and gpu:
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
            free["step"]()
            torch.cuda.synchronize()
        print(profile.key_averages().table(sort_by="self_cuda_time_total", row_limit=20, max_name_column_width=60))


@contextmanager
def memory_limited_to(share: float):
    """Limit PyTorch to this share of the GPU's memory."""
    torch.cuda.set_per_process_memory_fraction(share)
    yield
    torch.cuda.set_per_process_memory_fraction(1.0)


if __name__ == "__main__":
    main()
