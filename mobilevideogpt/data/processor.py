"""Text and clips to the inputs of the model."""

import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import BatchFeature, Qwen2Tokenizer

from mobilevideogpt.auto_classes import PROCESSING
from mobilevideogpt.data.frame_bounds import SETTINGS_FILE, FrameBounds, read_frame_bounds
from mobilevideogpt.data.prompts import IGNORED, encode_turns, with_video
from mobilevideogpt.files import read_json, write_json
from mobilevideogpt.model.configuration import MobileVideoGPTConfig, count_visual_tokens
from mobilevideogpt.video.pixels import clip_pixels
from mobilevideogpt.video.sampling import NUM_FRAMES

PLACEHOLDER = "<|video_pad|>"


class MobileVideoGPTProcessor:
    """Tokenizer, prompt builder and frame pipeline.

    Attributes:
        tokenizer: Qwen2's.
        min_frames: A short clip is sampled to this many frames, if it has them.
        max_frames: Frames that the model takes; shorter clips are padded with zeros.
        video_token_id: Id of each visual token in ``input_ids``.
        num_visual_tokens: Visual tokens of a video.
    """

    def __init__(
        self,
        tokenizer: Qwen2Tokenizer,
        min_frames: int = NUM_FRAMES,
        max_frames: int = NUM_FRAMES,
    ):
        self.tokenizer = tokenizer
        self.min_frames = min_frames
        self.max_frames = max_frames
        # A vocabulary without the placeholder still agrees with the model on its id.
        self.video_token_id = tokenizer.get_vocab().get(PLACEHOLDER, MobileVideoGPTConfig.video_token_id)
        self.num_visual_tokens = count_visual_tokens(max_frames)

    @classmethod
    def from_pretrained(cls, folder_or_repo: str | Path, **kwargs) -> "MobileVideoGPTProcessor":
        """Load the tokenizer, from ``vocab.json`` and ``merges.txt`` or ``tokenizer.json``, and the frame bounds.

        Args:
            folder_or_repo: Checkpoint folder or hub id.
            kwargs: ``min_frames`` and ``max_frames`` override the saved ones; the others go to the tokenizer.
        """
        given = {name: kwargs.pop(name) for name in FrameBounds._fields if name in kwargs}
        bounds = read_frame_bounds(folder_or_repo)._replace(**given)
        return cls(Qwen2Tokenizer.from_pretrained(folder_or_repo, **kwargs), *bounds)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the frame bounds and the tokenizer, also for transformers 4, which the original code uses."""
        self.tokenizer.save_pretrained(folder)
        self.tokenizer.backend_tokenizer.model.save(str(folder))  # vocab.json and merges.txt
        path = Path(folder, "tokenizer_config.json")
        config = read_json(path, "fetch the checkpoint again", shape=dict)
        # The older name, which transformers 5 reads too; the original code supervises the tokens in this list.
        config["additional_special_tokens"] = config.pop("extra_special_tokens", [])
        write_json(config, path)
        settings = {
            "processor_class": type(self).__name__,
            "min_frames": self.min_frames,
            "max_frames": self.max_frames,
        }
        write_json(settings, Path(folder, SETTINGS_FILE))

    def encode_text(
        self, prompt: str, response: str | None = None, num_visual_tokens: int | None = None
    ) -> dict[str, list[int]]:
        """Return ``input_ids`` and ``labels`` of one question and its answer.

        Args:
            prompt: ``<video>`` in it marks the place of the video; by default that is the beginning.
            response: The answer; if None, the ids end with the header of the answer.
            num_visual_tokens: Placeholders to write; by default as many as the model needs.
        """
        visual = self.num_visual_tokens if num_visual_tokens is None else num_visual_tokens
        turns = [("user", with_video(prompt))] + ([] if response is None else [("assistant", response)])
        input_ids, labels = encode_turns(self.tokenizer, turns, self.video_token_id, visual)
        return {"input_ids": input_ids, "labels": labels}

    def encode_video(self, path: str | Path) -> dict[str, Tensor]:
        """Return ``pixel_values_videos`` and ``pixel_values_context`` of a clip.

        Returns:
            Pixels ``(max_frames, 3, 224, 224)`` float32 under each name.

        Raises:
            InputError: If the clip does not decode.
        """
        return clip_pixels(path, self.min_frames, self.max_frames)

    def pad(self, features: list[dict], padding_side: str = "right", pad_to_multiple_of: int = 1) -> BatchFeature:
        """Pad ``input_ids``, ``labels`` and ``attention_mask``, and stack the other tensors.

        Args:
            features: The rows of the batch.
            padding_side: Where the padding goes, ``"right"`` or ``"left"``.
            pad_to_multiple_of: Pad the longest row, too, up to a multiple of this length.
        """
        pad_id = self.tokenizer.pad_token_id
        fills = {"input_ids": self.tokenizer.eos_token_id if pad_id is None else pad_id, "labels": IGNORED}
        batch = {}
        features = [{"attention_mask": torch.ones(len(f["input_ids"]), dtype=torch.long)} | f for f in features]
        longest = max(len(f["input_ids"]) for f in features)
        more = -longest % pad_to_multiple_of
        for name in features[0]:
            rows = [torch.as_tensor(f[name]) for f in features]
            if name in ("input_ids", "labels", "attention_mask"):
                fill = fills.get(name, 0)
                padded = torch.nn.utils.rnn.pad_sequence(rows, True, fill, padding_side)
                batch[name] = F.pad(padded, (0, more) if padding_side == "right" else (more, 0), value=fill)
            else:
                batch[name] = torch.stack(rows)
        return BatchFeature(batch)

    def __call__(
        self, videos: list[str | Path], prompts: list[str], responses: list[str] | None = None
    ) -> BatchFeature:
        """Build a batch of clips and questions: for training with answers, for generation without.

        Raises:
            ValueError: If the lists differ in length.
            InputError: If a clip does not decode.
        """
        if not len(videos) == len(prompts) == len(prompts if responses is None else responses):
            raise ValueError(f"{len(videos)} videos and {len(prompts)} prompts do not match, or the responses do not")
        rows = []
        for video, prompt, response in zip(videos, prompts, responses or [None] * len(prompts), strict=True):
            text = self.encode_text(prompt, response)
            if response is None:
                del text["labels"]
            rows.append(text | self.encode_video(video))
        return self.pad(rows, "left" if responses is None else "right")


def register_processor() -> None:
    """Make the processor known to AutoProcessor, if that is imported.

    Released folders name no processor, so AutoProcessor finds the class by the configuration.
    """
    auto = getattr(sys.modules.get(PROCESSING), "AutoProcessor", None)
    if auto is not None:
        auto.register(MobileVideoGPTConfig, MobileVideoGPTProcessor, exist_ok=True)


register_processor()
