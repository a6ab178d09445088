"""Text and clips to what the model takes."""

from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import BatchFeature, PreTrainedTokenizerBase, Qwen2Tokenizer

from mobilevideogpt.data.prompts import IGNORED, encode_turns, with_video
from mobilevideogpt.files import read_json, write_json
from mobilevideogpt.video.frames import clip_frames
from mobilevideogpt.video.pixels import clip_pixels

PLACEHOLDER = "<|video_pad|>"
PLACEHOLDER_ID = 151656  # in Qwen2.5's vocabulary; for tokenizers without the word, any id that the model agrees on
TOKENS_PER_IMAGE, TOKENS_PER_CHUNK, FRAMES_PER_CHUNK = 144, 49, 8
SETTINGS_FILE = "processor_config.json"


class MobileVideoGPTProcessor:
    """Tokenizer, prompt and frame pipeline in one.

    Attributes:
        tokenizer: Qwen2's.
        min_frames: Frames that a short clip is sampled to, if it has them.
        max_frames: Frames that the model takes; shorter clips are padded with zeros.
        video_token_id: What stands for a visual token in ``input_ids``.
        num_visual_tokens: How many of them stand for a video.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, min_frames: int = 16, max_frames: int = 16):
        self.tokenizer = tokenizer
        self.min_frames = min_frames
        self.max_frames = max_frames
        self.video_token_id = tokenizer.get_vocab().get(PLACEHOLDER, PLACEHOLDER_ID)
        self.num_visual_tokens = max_frames * TOKENS_PER_IMAGE + max_frames // FRAMES_PER_CHUNK * TOKENS_PER_CHUNK

    @classmethod
    def from_pretrained(cls, folder_or_repo: str | Path, **kwargs) -> "MobileVideoGPTProcessor":
        """Load the tokenizer, from ``vocab.json`` and ``merges.txt`` or ``tokenizer.json``, and this class's settings.

        Args:
            folder_or_repo: Checkpoint folder or hub id.
            kwargs: ``min_frames`` and ``max_frames`` win over what is saved; the rest goes to the tokenizer.
        """
        path = Path(folder_or_repo, SETTINGS_FILE)
        settings = read_json(path) if path.is_file() else {}
        settings = {k: settings[k] for k in ("min_frames", "max_frames") if k in settings}
        settings |= {k: kwargs.pop(k) for k in ("min_frames", "max_frames") if k in kwargs}
        return cls(Qwen2Tokenizer.from_pretrained(folder_or_repo, **kwargs), **settings)

    def save_pretrained(self, folder: str | Path) -> None:
        """Write the tokenizer, for transformers 4 (on which the original code runs) too, and the settings."""
        self.tokenizer.save_pretrained(folder)
        self.tokenizer.backend_tokenizer.model.save(str(folder))  # vocab.json and merges.txt
        path = Path(folder, "tokenizer_config.json")
        config = read_json(path)
        # The older name, which transformers 5 reads, too; the original code supervises the tokens under it.
        config["additional_special_tokens"] = config.pop("extra_special_tokens", [])
        write_json(config, path)
        settings = {
            "processor_class": type(self).__name__,
            "min_frames": self.min_frames,
            "max_frames": self.max_frames,
        }
        write_json(settings, Path(folder, SETTINGS_FILE))

    def encode_text(self, prompt: str, response: str | None = None) -> dict[str, list[int]]:
        """``input_ids`` and ``labels`` of one question and its answer.

        Args:
            prompt: With ``<video>`` where the video goes; in front if absent.
            response: The answer; if None, the ids end where the model is to begin.
        """
        turns = [("user", with_video(prompt))] + ([] if response is None else [("assistant", response)])
        input_ids, labels = encode_turns(self.tokenizer, turns, self.video_token_id, self.num_visual_tokens)
        return {"input_ids": input_ids, "labels": labels}

    @property
    def frame_reader(self) -> partial:
        """`clip_frames` of a path and a digest, apart from the tokenizer, for processes that decode and do no more."""
        return partial(clip_frames, min_frames=self.min_frames, max_frames=self.max_frames)

    def encode_video(self, path: str | Path) -> dict[str, Tensor]:
        """``pixel_values_videos`` and ``pixel_values_context`` of a clip, each ``(max_frames, 3, 224, 224)`` float32.

        Raises:
            InputError: If the clip does not decode.
        """
        return clip_pixels(path, self.min_frames, self.max_frames)

    def pad(self, features: list[dict], padding_side: str = "right", pad_to_multiple_of: int = 1) -> BatchFeature:
        """Pad ``input_ids``, ``labels`` and ``attention_mask`` to the longest or a multiple, stack the rest."""
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
        """A batch of clips and questions: with answers for training (padded right), without for generation (left)."""
        if not len(videos) == len(prompts) == len(prompts if responses is None else responses):
            raise ValueError(f"{len(videos)} videos and {len(prompts)} prompts do not match, or the responses do not")
        rows = []
        for video, prompt, response in zip(videos, prompts, responses or [None] * len(prompts), strict=True):
            text = self.encode_text(prompt, response)
            if response is None:
                del text["labels"]
            rows.append(text | self.encode_video(video))
        return self.pad(rows, "left" if responses is None else "right")
