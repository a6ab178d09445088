"""What the precision of the encoders changes: the largest difference of the features, and the frames that are chosen.

    python benchmarks/feature_precision.py [--checkpoint FOLDER] [CLIP ...]

Encodes the clip of the parity goldens, rendered clips of the sample and further ones in fp32, and in tf32 and bf16 on a
GPU. A difference is that of a feature, divided by the root mean square of all features of its encoder. Without a
checkpoint the encoders have random weights of full size, whose scores are closer to each other than those of trained
ones.
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


def main() -> None:
    """Parse the command line, encode, print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("clips", nargs="*", type=Path)
    parser.add_argument("--checkpoint", type=Path, help="with its encoders; random weights by default")
    parser.add_argument("--rendered", type=int, default=30, help="clips of the sample")
    parser.add_argument("--json", type=Path, help="also write the figures here")
    options = parser.parse_args()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = load_encoders(ModelPaths(str(options.checkpoint))) if options.checkpoint else model_of("full", device)
    model.to(device).eval()
    with tempfile.TemporaryDirectory() as folder:
        write_sample(folder)
        rendered = sorted(Path(folder).rglob("*.mp4"))[: options.rendered]
        clips = [CLIP, *rendered, *options.clips]
        pixels = [clip_pixels(clip, 16, 16) for clip in clips]
    results = {}
    for precision in ("fp32", "tf32", "bf16")[: 3 if device == "cuda" else 1]:  # bf16 rounds the weights for good
        model.set_encoder_precision(precision)
        results[precision] = [encode(model, [one], device, torch.float32) for one in pixels]
    figures = {}
    for precision, found in results.items():
        row = {}
        for name in FEATURES:
            exact = torch.cat([one[name] for one in results["fp32"]])
            row[name] = (
                (torch.cat([one[name] for one in found]) - exact).abs().max() / exact.square().mean().sqrt()
            ).item()
        pairs = zip(found, results["fp32"], strict=True)
        others = [not torch.equal(*(chosen(one[SCORES], model.config) for one in pair)) for pair in pairs]
        row["clips with other frames"] = f"{sum(others)} of {len(others)}"
        figures[precision] = row
        print(precision, row, flush=True)
    if options.json:
        options.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
