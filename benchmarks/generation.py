"""Seconds and memory of generation at full size, beside Qwen2 of transformers with as many input embeddings.

    python benchmarks/generation.py            # on the GPU if there is one, else smaller and slower on the CPU

Both sides share random weights in bfloat16. Our side gets cached features of a clip and a question, the other side
ready embeddings. Generation is greedy, with a fixed number of new tokens. The sides alternate; medians are printed.
On a GPU, our side then answers with and without an adapter, as the evaluation does, its tokens launched kernel by
kernel and by a captured CUDA graph.
"""

import argparse
import gc
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM, StoppingCriteria, StoppingCriteriaList

from mobilevideogpt import MobileVideoGPTConfig, MobileVideoGPTForConditionalGeneration
from mobilevideogpt.model.adapter import add_lora
from mobilevideogpt.model.decoding_graphs import DecodingGraphs

TEXT_TOKENS = 40


def plain_qwen2(model: MobileVideoGPTForConditionalGeneration) -> Qwen2ForCausalLM:
    """Return Qwen2 of transformers that shares the tensors of the language model."""
    with torch.device("meta"):
        names = Qwen2Config().to_dict().keys() - {"architectures", "model_type", "dtype"}
        plain = Qwen2ForCausalLM(Qwen2Config(**{k: v for k, v in model.config.to_dict().items() if k in names}))
    state = model.state_dict()
    plain.load_state_dict({k: state[k] for k in plain.state_dict()}, assign=True)
    plain.tie_weights()
    plain.model.rotary_emb = model.model.rotary_emb  # its frequencies are not in the state dict
    plain.set_attn_implementation(model.config._attn_implementation)
    return plain.eval()


class PeakMemory:
    """Peak memory of a block in bytes, and memory before it: of the GPU, or of the process on a CPU."""

    def __init__(self, device: str):
        self.on_gpu = device == "cuda"

    def __enter__(self):
        gc.collect()
        if self.on_gpu:
            torch.cuda.reset_peak_memory_stats()
            self.before = torch.cuda.memory_allocated()
        else:
            Path("/proc/self/clear_refs").write_text("5")  # Linux: reset the peak
            self.before = self._status("VmRSS")
        return self

    def __exit__(self, *_):
        self.peak = torch.cuda.max_memory_allocated() if self.on_gpu else self._status("VmHWM")

    @staticmethod
    def _status(name: str) -> int:
        text = Path("/proc/self/status").read_text()
        return int(text.partition(f"{name}:")[2].split()[0]) * 1024


class Clock(StoppingCriteria):
    """Records the seconds until each new token, and never stops the generation."""

    def __init__(self):
        synchronize()
        self.started = time.perf_counter()
        self.seconds = []

    def __call__(self, input_ids, scores, **kwargs):
        synchronize()
        self.seconds.append(time.perf_counter() - self.started)
        return torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)


def synchronize() -> None:
    """Wait for the GPU, if there is one."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def main() -> None:
    """Parse the command line, measure, print."""
    gpu = torch.cuda.is_available()
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--new-tokens", type=int, default=64 if gpu else 16)
    parser.add_argument("--frames", type=int, default=16 if gpu else 8, help="of the clip; 16 as released")
    parser.add_argument("--runs", type=int, default=20 if gpu else 3)
    parser.add_argument("--batch", type=int, default=1, help="clips at once")
    options = parser.parse_args()
    device = "cuda" if gpu else "cpu"
    torch.manual_seed(0)

    config = MobileVideoGPTConfig(num_frames=options.frames, video_num_frames=options.frames // 2)
    with torch.device(device):
        model = MobileVideoGPTForConditionalGeneration(config).eval()
        ids = torch.randint(1000, 100000, (options.batch, TEXT_TOKENS))
        video, context = (torch.randn(options.batch, *shape) for shape in config.feature_shapes.values())
    for part in (model.lm_head, model.model.layers, model.model.norm, *projectors(model)):
        part.bfloat16()  # the encoders, unused here, stay in float32 as `from_pretrained` leaves them
    plain = plain_qwen2(model)
    placeholders = torch.full((options.batch, config.num_visual_tokens), config.video_token_id, device=device)
    ids = torch.cat([ids[:, :14], placeholders, ids[:, 14:]], dim=1)
    settings = {
        "attention_mask": torch.ones_like(ids),
        "do_sample": False,
        "max_new_tokens": options.new_tokens,
        "min_new_tokens": options.new_tokens,
        "eos_token_id": config.eos_token_id,
        "pad_token_id": config.bos_token_id,
    }
    with torch.no_grad():
        embeds = model.embed(ids, video, context)

    sides = {
        "ours": lambda **o: model.generate(ids, video, context, **settings, **o),
        "plain Qwen2": lambda **o: plain.generate(inputs_embeds=embeds, **settings, **o),
    }
    first, rest, peak, tokens = ({name: [] for name in sides} for _ in range(4))
    for run in range(1 + options.runs):  # the first warms up
        for name, generate in reversed(sides.items()) if run % 2 else sides.items():
            with PeakMemory(device) as memory:
                clock = Clock()
                tokens[name] = generate(stopping_criteria=StoppingCriteriaList([clock]))
            first[name].append(clock.seconds[0])
            rest[name].append(clock.seconds[-1] - clock.seconds[0])
            peak[name].append((memory.peak, memory.peak - memory.before))
    if not torch.equal(*tokens.values()):
        raise SystemExit("the two sides generate different tokens, although they share weights and inputs")

    where = torch.cuda.get_device_name() if gpu else f"CPU, {torch.get_num_threads()} threads"
    print(
        f"{where}, torch {torch.__version__}; {options.batch} x {ids.shape[1]} input tokens, {options.new_tokens} new, "
        f"bfloat16, {config.num_hidden_layers} layers, sdpa; medians of {options.runs}"
    )
    print(f"{'':12} {'first token':>12} {'decoding':>12} {'all tokens':>11} {'peak memory':>12} {'above before':>13}")
    values = {}
    for name in sides:
        pairs = zip(first[name][1:], rest[name][1:], strict=True)
        values[name] = list(zip(*((f, r, f + r) for f, r in pairs), strict=True))
        start, decoding, whole = map(statistics.median, values[name])
        rate = options.batch * (options.new_tokens - 1) / decoding
        total, above = (max(sizes) / 2**30 for sizes in zip(*peak[name], strict=True))
        print(f"{name:12} {start * 1e3:9.1f} ms {rate:8.1f} /s {whole:9.3f} s {total:8.2f} GiB {above:9.2f} GiB")
    ratios = []  # of adjacent runs, so that other load of the machine matters less
    for ours, theirs in zip(*values.values(), strict=True):
        ratios.append(statistics.median(t / o for o, t in zip(ours, theirs, strict=True)))
    print(f"{'speed, ratio':12} {ratios[0]:12.3f} {ratios[1]:12.3f} {ratios[2]:11.3f}   (goal: at least 0.95)")
    if gpu:
        compare_graphs(model, lambda asked, **o: asked.generate(ids, video, context, **settings, **o), options)


def compare_graphs(model: MobileVideoGPTForConditionalGeneration, generate: Callable, options) -> None:
    """Print the milliseconds of a token, launched and captured, without and with an adapter of the default rank."""
    print(f"{'a token, ms':16} {'launched':>9} {'captured':>9} {'ratio':>6} {'capturing':>10} {'equal tokens':>13}")
    for name in ("base", "with an adapter"):
        asked: Any = model if name == "base" else add_lora(model, r=64, lora_alpha=128, lora_dropout=0.0).eval()
        seconds, tokens, first = {}, {}, {}
        for way, graphs in (("launched", None), ("captured", DecodingGraphs())):
            runs = []
            for _ in range(1 + max(2, options.runs // 4)):
                clock = Clock()
                cache = graphs and graphs.cache(model.config, options.new_tokens)
                with torch.inference_mode(), torch.autocast("cuda", torch.bfloat16):
                    tokens[way] = generate(
                        asked, past_key_values=cache, stopping_criteria=StoppingCriteriaList([clock])
                    )
                runs.append((clock.seconds[-1] - clock.seconds[1]) / (options.new_tokens - 2))
                first.setdefault(way, clock.seconds[1] - clock.seconds[0])  # of the first run: it captures
            seconds[way] = statistics.median(runs[1:])
        equal = (tokens["launched"] == tokens["captured"]).float().mean().item()
        ratio, capturing = seconds["launched"] / seconds["captured"], first["captured"]
        milliseconds = [f"{seconds[way] * 1e3:9.2f}" for way in seconds]
        print(f"{name:16} {' '.join(milliseconds)} {ratio:6.1f} {capturing:8.2f} s {equal:13.1%}", flush=True)


def projectors(model: MobileVideoGPTForConditionalGeneration) -> tuple:
    """Return the modules between the inputs and the decoder."""
    return model.model.embed_tokens, model.model.mm_projector, model.model.image_mm_projector


if __name__ == "__main__":
    main()
