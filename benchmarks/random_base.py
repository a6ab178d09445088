"""A base checkpoint of random weights with its encoders, in the official layout, for benchmarks at the real size.

    python benchmarks/random_base.py FOLDER [--tiny] [--frames 8]

Geometry and vocabulary are the released ones. The tokenizer is that of the sample, which suffices for random weights.
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

import torch

from mobilevideogpt.data.processor import MobileVideoGPTProcessor
from mobilevideogpt.model.configuration import MobileVideoGPTConfig
from mobilevideogpt.model.modeling import MobileVideoGPTForConditionalGeneration
from mobilevideogpt.sample.pretrain import BASE, TOKENIZER_FILES, new_model


def write_base(folder: Path, tiny: bool, frames: int | None = None) -> None:
    """Write the checkpoint in half precision, as released; ``tiny`` has the geometry of the sample's base.

    Args:
        folder: Where to write.
        tiny: Whether it is small.
        frames: Frames of a clip of a small base, for less work; as released by default.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in TOKENIZER_FILES:
        shutil.copyfile(BASE / name, folder / name)
    processor = MobileVideoGPTProcessor.from_pretrained(folder)
    fewer: dict[str, int] = {}
    if frames:
        processor = MobileVideoGPTProcessor.from_pretrained(folder, min_frames=frames, max_frames=frames)
        processor.save_pretrained(folder)
        fewer = {"num_frames": frames, "video_num_frames": frames // 2}
    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        if tiny:
            model = new_model(processor, **fewer)
        else:
            ids = {"bos_token_id": processor.tokenizer.pad_token_id, "eos_token_id": processor.tokenizer.eos_token_id}
            model = MobileVideoGPTForConditionalGeneration(
                MobileVideoGPTConfig(**ids, video_token_id=processor.video_token_id)
            )
    model.half().save_pretrained(folder, layout="official")


def make_base(folder: Path, tiny: bool, frames: int | None = None) -> None:
    """Write the checkpoint as `write_base` does, in a process of its own, so that this process uses no GPU memory.

    Raises:
        SystemExit: If it failed.
    """
    command = [sys.executable, __file__, str(folder), *["--tiny"] * tiny]
    command += ["--frames", str(frames)] if frames else []
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)


def main() -> None:
    """Parse the command line and write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--tiny", action="store_true", help="the geometry of the sample's base")
    parser.add_argument("--frames", type=int, help="of a clip, for a small base")
    options = parser.parse_args()
    write_base(options.folder, options.tiny, options.frames)


if __name__ == "__main__":
    main()
