"""What the precision of the encoders changes: the largest difference of the features, and the frames that are chosen.

    python benchmarks/feature_precision.py [--checkpoint FOLDER] [--encoders tiny] [CLIP ...]

Encodes the clip of the parity goldens, rendered clips of the sample and further ones in fp32 and bf16, and in tf32 on a
GPU. A difference is that of a feature, divided by the root mean square of all features of its encoder. Without a
checkpoint the encoders have random weights, whose scores are closer to each other than those of trained ones.
"""

import argparse
import json
import tempfile
from pathlib import Path

import torch
from features import CLIP, model_of  # in this folder

from mobilevideogpt.data.encoding import FEATURES, SCORES, encode
from mobilevideogpt.model.model_paths import ModelPaths
from mobilevideogpt.model.modeling import load_encoders
from mobilevideogpt.model.selection import select_frames
from mobilevideogpt.sample.render import write_sample
from mobilevideogpt.video.pixels import clip_pixels


def chosen(scores: torch.Tensor, config) -> torch.Tensor:
    """Return the positions of the chosen frames in each chunk."""
    count = config.video_num_frames // 2
    return select_frames(scores.unflatten(-1, (2, -1)), count, config.select_highest)


def compared(found: list[dict], exact: list[dict], config) -> dict[str, str]:
    """Return the largest difference of each encoder's features, and how many clips have other frames."""
    row = {}
    for name in FEATURES:
        tensors, expected = (torch.cat([one[name] for one in each]) for each in (found, exact))
        row[name] = f"{((tensors - expected).abs().max() / expected.square().mean().sqrt()).item():.2e}"
    pairs = zip(found, exact, strict=True)
    others = [not torch.equal(*(chosen(one[SCORES], config) for one in pair)) for pair in pairs]
    return row | {"clips with other frames": f"{sum(others)} of {len(others)}"}


def _batch_of(clip, device: str) -> dict[str, torch.Tensor]:
    return {name: pixels[None].to(device) for name, pixels in clip_pixels(clip, 16, 16).items()}


def main() -> None:
    """Parse the command line, encode, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("clips", nargs="*", type=Path)
    parser.add_argument("--checkpoint", type=Path, help="with its encoders; random weights by default")
    parser.add_argument("--encoders", choices=["full", "tiny"], default="full", help="of random weights")
    parser.add_argument("--rendered", type=int, default=30, help="clips of the sample")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = (
        load_encoders(ModelPaths(str(options.checkpoint))) if options.checkpoint else model_of(options.encoders, device)
    )
    model.to(device).eval()
    with tempfile.TemporaryDirectory() as folder:
        write_sample(folder)
        rendered = sorted(Path(folder).rglob("*.mp4"))[: options.rendered]
        kinds = {"golden": [CLIP], "rendered": rendered, "further": options.clips}
        pixels = {kind: [_batch_of(clip, device) for clip in clips] for kind, clips in kinds.items() if clips}
    print(f"{device}; torch {torch.__version__}; clips: " + ", ".join(f"{len(pixels[kind])} {kind}" for kind in pixels))
    exact, figures = {}, []
    for precision in ("fp32", "tf32", "bf16"):  # in this order: bf16 rounds the weights for good
        if precision == "tf32" and device == "cpu":
            continue
        model.set_encoder_precision(precision)
        for kind, of_kind in pixels.items():
            found = [encode(model, one, torch.float32) for one in of_kind]
            exact.setdefault(kind, found)
            row = {"precision": precision, "clips": kind} | compared(found, exact[kind], model.config)
            figures.append(row)
            print("  ".join(f"{name}: {value}" for name, value in row.items()), flush=True)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
