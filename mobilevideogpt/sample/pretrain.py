"""Pretraining of the sample's tiny base checkpoint: the real architecture at a small size.

`make base` trains an equivalent checkpoint and writes it to `mobilevideogpt/sample/base`, in 20 minutes on an H100 or
days on a CPU. The checkpoint in the repository was trained in three runs on an H100: 9 minutes without lessons of
text alone, 9 minutes with them, and 4 minutes of ``--language-only`` after its weights were copied to a larger
vocabulary.

The clips show rendered movements outside the six exercises: named ones with their labels, and random ones with a
description. No lesson contains a label of the six. Text without video (the topics of Python's help, and repetition of
the user's words) teaches words that no lesson about a clip contains. Temporary heads predict the joints from the
features of both encoders, so that the features represent the pose.
"""

import argparse
import json
import logging
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any, cast

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from tokenizers import ByteLevelBPETokenizer
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from mobilevideogpt.data.processor import MobileVideoGPTProcessor
from mobilevideogpt.model.configuration import FRAMES_PER_CHUNK, MobileVideoGPTConfig
from mobilevideogpt.model.modeling import MobileVideoGPTForConditionalGeneration
from mobilevideogpt.model.selection import frame_scores, select_frames
from mobilevideogpt.sample.attributes import Attributes
from mobilevideogpt.sample.figure import JOINTS
from mobilevideogpt.sample.movements import MOVEMENTS
from mobilevideogpt.sample.names import NO_ISSUE
from mobilevideogpt.sample.render import FPS, FRAMES, SIZE, ClipSpec, describe, frames, joints
from mobilevideogpt.video.pixels import CONTEXT_MEAN, CONTEXT_STD, VIDEO_MEAN, VIDEO_STD
from mobilevideogpt.video.sampling import frame_indices

BASE = Path(__file__).parent / "base"
FEEDBACK = "Analyze this video and provide corrective feedback."
DESCRIBE = "Describe the movement in this video."
NAME = "Which exercise is this, and what is wrong with it?"
GEOMETRY: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 384,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 8192,
    "video_hidden_size": 128,
    "video_num_layers": 4,
    "video_state_size": 8,
    "image_hidden_size": 128,
    "image_intermediate_size": 384,
    "image_num_layers": 5,
    "image_num_heads": 4,
}
TOKENIZER_FILES = ("vocab.json", "merges.txt", "tokenizer_config.json")
TEXT_LENGTH = 96  # tokens
VOCABULARY = 2000  # tokens, besides the special ones
# Qwen2's special tokens in its order; those up to <|video_pad|> are its additional_special_tokens.
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|object_ref_start|>", "<|object_ref_end|>"]
SPECIAL += ["<|box_start|>", "<|box_end|>", "<|quad_start|>", "<|quad_end|>"]
SPECIAL += ["<|vision_start|>", "<|vision_end|>", "<|vision_pad|>", "<|image_pad|>", "<|video_pad|>"]
NOT_SPECIAL = ["<tool_call>", "</tool_call>", "<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>", "<|fim_pad|>"]
NOT_SPECIAL += ["<|repo_name|>", "<|file_sep|>"]

# Words about exercise; each becomes a token.
WORDS = """
add ankle apart arch arm arms as back balance ball before belly bend bent beside big body both breathe calf center
chest chin circle circles close cross curl deep deeper down draw drop ease elbow elbows even extend face fall falling
far fast feet finger firm fist flat floor foot forward front full fully go grip ground hand hands head heavy heel
heels height high higher hip hips hold hollow instead inward jump jumping keep keeping knee knees land large larger
lean leaning left leg legs less level lift lifting lightly line little long look low lower lying more move neck
neutral not often only open out outside outward over pace palms path pause place point position posture power press
pull push quick raise range reach rep repeat reps rest right rise rotate round sag sagging shallow short shoulder
shoulders side sideways sink sit slide slight slow slower slowly small smaller smooth soft sole spine spread
squeeze stand start stay steady step stop straight straighten stretch strong support swap sway swing tall tension
thigh thighs tight tighten tilt tip toes together too torso touch toward trunk turn twist under until up upper upright
upward waist walk weak weight while wide wider width wobble wrist wrists your
"""

logger = logging.getLogger(__name__)


def draw_lesson(rng: np.random.Generator) -> tuple[ClipSpec, str, str]:
    """Draw a clip, a question about it and the answer."""
    if rng.random() < 0.4:
        spec = next(spec for spec in random_specs(rng) if not resembles_an_exercise(describe(spec)))
        return spec, DESCRIBE, in_words(spec)
    name = str(rng.choice(list(MOVEMENTS)))
    faults = MOVEMENTS[name].faults
    good = not faults or rng.random() < 0.4
    spec = ClipSpec(name, NO_ISSUE if good else str(rng.choice(faults)), draw_seed(rng))
    kind = rng.random()
    if kind < 0.2:
        return spec, DESCRIBE, in_words(spec)
    return (spec, NAME, spec.label) if kind < 0.35 else (spec, FEEDBACK, spec.descriptive_label)


def draw_seed(rng: np.random.Generator) -> tuple[int, int]:
    """Draw the seed of a clip; it differs from the seeds of the sample, which begin with a small number."""
    return int(rng.integers(2**30, 2**31)), int(rng.integers(2**31))


def random_specs(rng: np.random.Generator) -> Iterator[ClipSpec]:
    """Draw random movements without end."""
    while True:
        yield ClipSpec("random", NO_ISSUE, draw_seed(rng))


def resembles_an_exercise(seen: Attributes) -> bool:
    """Tell from its description whether a movement resembles one of the six exercises, with or without faults."""
    match seen["posture"]:
        case "kneeling plank":  # push-ups
            return seen["motion"] != "static"
        case "all fours":  # opposite arm and leg lifts
            return seen["arms_move"] != "still" and seen["legs_move"] != "still"
        case "standing":  # squats, squat jumps, knee circles and the triceps stretch
            bending = seen["knee_degrees"] > 25 and (seen["legs_move"] == "together" or seen["motion"] == "circular")
            folded = seen["elbow_degrees"] > 110 and seen["arms_move"] == "still"
            return bending or folded or seen["arms"] in ("behind the head", "on the knees")
    return False


def in_words(spec: ClipSpec) -> str:
    """Describe a clip in one sentence, with measures in steps of ten."""
    seen = {name: round(value, -1) if isinstance(value, int) else value for name, value in describe(spec).items()}
    return "; ".join(f"{name.replace('_', ' ')} {value}" for name, value in seen.items())


def write_tokenizer(folder: Path, seed: int = 0) -> None:
    """Train byte-pair encoding on the texts of the lessons, and write it as Qwen2's tokenizer files."""
    rng = np.random.default_rng(seed)
    texts = [text for _ in range(1000) for text in draw_lesson(rng)[1:]]
    words = [form for word in WORDS.split() for form in _forms(word)] * 300
    tokenizer = ByteLevelBPETokenizer(add_prefix_space=False)
    tokenizer.train_from_iterator([*texts, *words, *topics.values()], vocab_size=VOCABULARY, show_progress=False)
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save_model(str(folder))
    write_tokenizer_config(folder, tokenizer.get_vocab_size())


def _forms(word: str) -> list[str]:
    return [before + form for form in (word, word.capitalize()) for before in ("", " ")]


def write_tokenizer_config(folder: Path, size: int) -> None:
    """Write ``tokenizer_config.json`` with Qwen2's special tokens after the first ``size`` tokens."""
    flags = {"lstrip": False, "normalized": False, "rstrip": False, "single_word": False}
    added = {
        str(size + i): {"content": token, **flags, "special": token in SPECIAL}
        for i, token in enumerate(SPECIAL + NOT_SPECIAL)
    }
    settings = {
        "add_bos_token": False,
        "add_prefix_space": False,
        "added_tokens_decoder": added,
        "additional_special_tokens": SPECIAL[1:],
        "bos_token": None,
        "clean_up_tokenization_spaces": False,
        "eos_token": "<|im_end|>",
        "errors": "replace",
        "model_max_length": 8192,
        "pad_token": "<|endoftext|>",
        "split_special_tokens": False,
        "tokenizer_class": "Qwen2Tokenizer",
        "unk_token": None,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=1) + "\n")


def new_model(processor: MobileVideoGPTProcessor, **changes: Any) -> MobileVideoGPTForConditionalGeneration:
    """Build the tiny model for a tokenizer, with random weights; ``changes`` are of its configuration."""
    tokenizer = processor.tokenizer
    # One token has one id; the annotations of transformers include lists of them.
    ids = (tokenizer.pad_token_id, tokenizer.eos_token_id, tokenizer.convert_tokens_to_ids("<|video_pad|>"))
    bos, eos, video = cast(tuple[int, int, int], ids)
    config = MobileVideoGPTConfig(
        **GEOMETRY | changes,
        vocab_size=-(-len(tokenizer) // 64) * 64,
        bos_token_id=bos,
        eos_token_id=eos,
        video_token_id=video,
    )
    return MobileVideoGPTForConditionalGeneration(config)


class Lessons(IterableDataset):
    """An endless stream of batches: frames, joints, and text as ids and labels."""

    def __init__(self, processor: MobileVideoGPTProcessor, batch_size: int, seed: int):
        self.processor, self.batch_size, self.seed = processor, batch_size, seed
        self.indices = frame_indices(FRAMES, FPS)
        tokenize = processor.tokenizer
        self.prose = tokenize("\n".join(topics.values())).input_ids
        self.vocabulary = tokenize.vocab_size  # without the special tokens
        turns = ("<|im_start|>user\nRepeat: ", "<|im_end|>\n<|im_start|>assistant\n", "<|im_end|>\n")
        self.repeat = [tokenize(turn).input_ids for turn in turns]

    def __iter__(self):
        """Draw batches; each worker has its own random stream."""
        cv2.setNumThreads(1)
        worker = torch.utils.data.get_worker_info()
        rng = np.random.default_rng([self.seed, worker.id if worker else 0])
        while True:
            yield self.batch(rng)

    def batch(self, rng: np.random.Generator) -> dict[str, Tensor]:
        """Draw ``batch_size`` lessons."""
        items = []
        for _ in range(self.batch_size):
            spec, question, answer = draw_lesson(rng)
            metres, pixels = joints(spec, self.indices)
            pictures = frames(spec, self.indices)
            if rng.random() < 0.25:  # compression artefacts
                quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(40, 96))]
                pictures = np.stack([_through_jpeg(picture, quality) for picture in pictures])
            item = self.processor.encode_text(question, answer)
            item |= {"frames": torch.from_numpy(pictures), "places": torch.from_numpy(pixels).float()}
            item["body"] = torch.from_numpy(centred(metres)).float()
            items.append(item)
        texts = [self.text(rng) for _ in range(2 * self.batch_size)]
        return {
            **padded(items, ""),
            **padded(texts, "text_"),
            **{name: torch.stack([item[name] for item in items]) for name in ("frames", "places", "body")},
        }

    def text(self, rng: np.random.Generator) -> dict[str, list[int]]:
        """Draw a lesson without video: prose, or tokens to repeat."""
        start = int(rng.integers(len(self.prose) - TEXT_LENGTH))
        if rng.random() < 0.5:
            ids = self.prose[start : start + TEXT_LENGTH]
            return {"input_ids": ids, "labels": ids}
        length = int(rng.integers(4, TEXT_LENGTH // 2))
        drawn = self.prose[start : start + length] if rng.random() < 0.3 else rng.integers(self.vocabulary, size=length)
        before, between, after = self.repeat
        tokens = [int(token) for token in drawn]
        prompt = before + tokens + between
        return {
            "input_ids": prompt + tokens + after,
            "labels": [-100] * len(prompt) + tokens + after,
        }


def _through_jpeg(picture: np.ndarray, parameters: list[int]) -> np.ndarray:
    decoded = cv2.imdecode(cv2.imencode(".jpg", picture, parameters)[1], cv2.IMREAD_COLOR)
    assert decoded is not None  # OpenCV reads what it wrote
    return decoded


def padded(items: list[dict], prefix: str) -> dict[str, Tensor]:
    """Stack ids and labels of unequal length, padded on the right."""
    length = max(len(item["input_ids"]) for item in items)
    return {
        prefix + name: torch.tensor([item[name] + [fill] * (length - len(item[name])) for item in items])
        for name, fill in (("input_ids", 0), ("labels", -100))
    }


def centred(metres: np.ndarray) -> np.ndarray:
    """Move joints ``(n, J, 3)`` so that the pelvis is at x = y = 0; heights stay."""
    moved = metres.copy()
    moved[..., :2] -= metres[:, :1, :2]
    return moved


class PoseHead(nn.Module):
    """Predicts the joints, in the picture and in space, from patch tokens; discarded after the training."""

    def __init__(self, width: int):
        super().__init__()
        self.score = nn.Linear(width, len(JOINTS))
        self.lift = nn.Sequential(nn.Linear(len(JOINTS) * 32, 256), nn.GELU(), nn.Linear(256, len(JOINTS) * 3))
        self.shrink = nn.Linear(width, 32)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Map tokens ``(M, side * side, width)`` to places in 0...1 ``(M, J, 2)`` and metres ``(M, J, 3)``."""
        side = round(tokens.shape[1] ** 0.5)
        weights = self.score(tokens).float().softmax(1)  # (M, side * side, J)
        axis = (torch.arange(side, device=tokens.device) + 0.5) / side
        grid = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), -1).flatten(0, 1)  # (side * side, 2) as x, y
        found = weights.mT @ self.shrink(tokens).float()  # (M, J, 32)
        return weights.mT @ grid, self.lift(found.flatten(1)).unflatten(1, (-1, 3))


def as_pixels(pictures: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Standardise frames uint8 ``(B, F, H, W, 3)`` for both encoders; faster than `video.pixels`, and nearly equal."""
    shape, x = pictures.shape[:2], pictures.flatten(0, 1).permute(0, 3, 1, 2).float()
    gain = 1 + 0.15 * torch.randn(len(pictures), 1, 1, 1, 1, device=x.device)
    x = (x.unflatten(0, shape) * gain).clamp(0, 255).flatten(0, 1)
    height, width = x.shape[-2:]
    video = F.interpolate(x, (size, size), mode="bilinear")
    long = int(size * width / height)
    context = F.interpolate(x, (size, long), mode="bicubic", antialias=True).clamp(0, 255)
    left = (long - size) // 2
    context = context[..., left : left + size]

    def standardise(x, mean, std):
        mean, std = (torch.tensor(v, device=x.device).view(3, 1, 1) for v in (mean, std))
        return ((x / 255 - mean) / std).unflatten(0, shape)

    return standardise(video, VIDEO_MEAN, VIDEO_STD), standardise(context, CONTEXT_MEAN, CONTEXT_STD)


def new_start(folder: Path, seed: int) -> tuple[MobileVideoGPTProcessor, MobileVideoGPTForConditionalGeneration]:
    """Train a tokenizer, write it to ``folder``, and build a model with random weights."""
    write_tokenizer(folder, seed)
    processor = MobileVideoGPTProcessor.from_pretrained(folder)
    return processor, new_model(processor)


def continue_from(start: Path, folder: Path) -> tuple[MobileVideoGPTProcessor, MobileVideoGPTForConditionalGeneration]:
    """Copy the tokenizer of ``start`` to ``folder``, and load the processor and the model."""
    folder.mkdir(parents=True, exist_ok=True)
    if start.resolve() != folder.resolve():
        for name in TOKENIZER_FILES:
            shutil.copyfile(start / name, folder / name)
    model = MobileVideoGPTForConditionalGeneration.from_pretrained(start, dtype=torch.float32)
    return MobileVideoGPTProcessor.from_pretrained(start), model


def pretrain(
    folder: Path,
    steps: int,
    batch_size: int,
    minutes: float,
    workers: int,
    seed: int,
    start: Path | None = None,
    language_only: bool = False,
) -> None:
    """Train the tiny model and write it to ``folder`` in the official layout.

    Args:
        folder: Destination.
        steps: Maximal number of steps.
        batch_size: Lessons per step.
        minutes: Maximal duration; the learning rate reaches 0 at the earlier of both limits.
        workers: Processes that draw lessons.
        seed: Seed of weights and lessons.
        start: Checkpoint to continue from, instead of random weights.
        language_only: Do not train the encoders, which is faster.
    """
    torch.manual_seed(seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    processor, model = new_start(folder, seed) if start is None else continue_from(start, folder)
    model = model.to(device).train()  # pyright: ignore[reportArgumentType]  # a decorator hides self
    if not language_only:
        model.requires_grad_(True)
    config = model.config
    heads = nn.ModuleList([PoseHead(config.image_hidden_size), PoseHead(config.video_hidden_size)]).to(device)
    heads.requires_grad_(not language_only)
    parameters = [p for p in [*model.parameters(), *heads.parameters()] if p.requires_grad]
    logger.info("%d parameters on %s", sum(p.numel() for p in model.parameters()), device)
    matrices = [p for p in parameters if p.ndim > 1]
    groups = [{"params": matrices, "weight_decay": 0.02}, {"params": [p for p in parameters if p.ndim < 2]}]
    optimizer = torch.optim.AdamW(groups, lr=1.5e-3, weight_decay=0.0, betas=(0.9, 0.98), fused=device.type == "cuda")
    lessons = Lessons(processor, batch_size, seed + 1000 * (start is not None) + 1000 * language_only)
    loader = iter(DataLoader(lessons, batch_size=None, num_workers=workers, pin_memory=device.type == "cuda"))
    started, step, recent, waited = time.monotonic(), 0, [], 0.0
    while True:
        progress = max(step / steps, (time.monotonic() - started) / 60 / minutes)
        if progress >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = 1.5e-3 * min(1, (step + 1) / 300) * (0.5 + 0.5 * np.cos(np.pi * progress))
        before = time.monotonic()
        batch = {name: tensor.to(device, non_blocking=True) for name, tensor in next(loader).items()}
        waited += time.monotonic() - before
        with torch.autocast(device.type, torch.bfloat16):
            parts = losses(model, None if language_only else heads, batch)
        optimizer.zero_grad(set_to_none=True)
        cast(Tensor, sum(parts.values())).backward()  # not the 0 of an empty sum
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        step += 1
        recent.append(torch.stack([*parts.values()]).detach())
        if step % 100 == 0:
            means = zip(parts, torch.stack(recent).mean(0).tolist(), strict=True)
            seconds = time.monotonic() - started
            listed = ", ".join(f"{name} {value:.3f}" for name, value in means)
            rate, waiting = step * batch_size / seconds, 100 * waited / seconds
            logger.info("step %d: %s; %.0f clips/s, %.0f %% waiting", step, listed, rate, waiting)
            recent.clear()
    model.eval().half().save_pretrained(folder, layout="official")


def losses(
    model: MobileVideoGPTForConditionalGeneration, heads: nn.ModuleList | None, batch: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Compute the losses of the answers, of text without video and, with heads, of the joints by each encoder."""
    video, context = model.encode_video(*as_pixels(batch["frames"], model.config.image_size))
    features = {"video_features": video, "context_features": context}
    parts = {
        "answers": model(input_ids=batch["input_ids"], labels=batch["labels"], **features).loss,
        "text": 0.5 * model(input_ids=batch["text_input_ids"], labels=batch["text_labels"]).loss,
    }
    if heads:
        places = batch["places"] / torch.tensor(SIZE, device=video.device)  # 0...1 in the whole frame
        seen = (crop(places).flatten(0, 1), batch["body"].flatten(0, 1))
        parts["image pose"] = pose_loss(heads[0], context.flatten(0, 1), *seen)
        scores = frame_scores(context.detach().unflatten(1, (-1, FRAMES_PER_CHUNK)))
        chosen = select_frames(scores, FRAMES_PER_CHUNK // 2)  # (B, P, 4)
        tokens = video.unflatten(2, (FRAMES_PER_CHUNK // 2, -1)).flatten(0, 2)  # (B * P * 4, 49, W)
        parts["video pose"] = pose_loss(heads[1], tokens, *(gather_frames(t, chosen) for t in (places, batch["body"])))
    return parts


def crop(places: Tensor) -> Tensor:
    """Convert places in the whole frame to places in its middle square, which CLIP sees."""
    ratio = SIZE[0] / SIZE[1]
    return torch.stack([(places[..., 0] - 0.5) * ratio + 0.5, places[..., 1]], -1)


def gather_frames(of_frames: Tensor, chosen: Tensor) -> Tensor:
    """Gather the frames chosen in each chunk ``(B, P, c)`` from ``(B, F, J, k)``, as ``(B * P * c, J, k)``."""
    chunks = of_frames.unflatten(1, (-1, FRAMES_PER_CHUNK))
    index = chosen[..., None, None].expand(-1, -1, -1, *of_frames.shape[2:])
    return chunks.gather(2, index).flatten(0, 2)


def pose_loss(head: nn.Module, tokens: Tensor, places: Tensor, body: Tensor) -> Tensor:
    """Compute the error of the joints by a `PoseHead`; a tenth of the picture counts 1, half a metre too."""
    found, metres = head(tokens)
    return F.l1_loss(found.float(), places) * 10 + F.l1_loss(metres.float(), body) * 2


def main() -> None:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--folder", type=Path, default=BASE)
    parser.add_argument("--steps", type=int, default=4200)
    parser.add_argument("--batch-size", type=int, default=48)
    parser.add_argument("--minutes", type=float, default=60 * 24 * 7, help="stop after this time")
    parser.add_argument("--workers", type=int, default=14)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", type=Path, help="continue from this checkpoint")
    parser.add_argument("--language-only", action="store_true", help="do not train the encoders")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    pretrain(**vars(options))


if __name__ == "__main__":
    main()
