"""A fine-tuned model that answers about clips; it is loaded once."""

import base64
import io
import logging
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from threading import Thread
from typing import cast, overload

import torch
from peft import PeftModel
from PIL import Image
from torch import Tensor
from transformers import TextIteratorStreamer

from mobilevideogpt.data.encoding import FEATURES, SCORES, encode
from mobilevideogpt.data.frame_bounds import FrameBounds
from mobilevideogpt.data.processor import MobileVideoGPTProcessor
from mobilevideogpt.errors import InputError
from mobilevideogpt.evaluation.frames import chosen_frames
from mobilevideogpt.evaluation.generation import generate_answers, load_for_inference
from mobilevideogpt.model.adapter import load_finetuned, merge_adapter
from mobilevideogpt.model.configuration import DTYPES
from mobilevideogpt.model.decoding_graphs import decoding_graphs
from mobilevideogpt.serving.finetuned import Finetuned, find_finetuned
from mobilevideogpt.serving.questions import Prompts, clips_named
from mobilevideogpt.serving.reading import Frames, frames_ahead
from mobilevideogpt.video.pixels import standardise

log = logging.getLogger(__name__)

LONGEST_ANSWER = 512  # tokens; most answers end by themselves long before
NO_PROMPT = "it is not known what this model was trained to be asked; give a prompt"
TOY = (
    "the base of this model is the sample's, which is tiny and knows rendered figures only; expect no sense about real "
    "clips. Fine-tune the released base on them: the guide says how"
)
PICTURE_SIDE = 112  # pixels of a frame on a page


@dataclass(frozen=True)
class Picture:
    """A frame that the model received.

    Attributes:
        src: A JPEG as data URI, squeezed to a square as the model receives it.
        chosen: Whether the video encoder received it, too, and not the image encoder alone.
    """

    src: str
    chosen: bool


@dataclass(frozen=True)
class Prediction:
    """An answer about a clip.

    Attributes:
        video: The clip.
        prompt: What was asked; None if that is not known for this clip.
        answer: The answer; None if there is an error.
        cut: Whether the answer reached the limit before it ended.
        error: Why the clip was not answered about.
        pictures: The frames that the model received, where they were asked for.
    """

    video: str
    prompt: str | None
    answer: str | None
    cut: bool = False
    error: str | None = None
    pictures: tuple[Picture, ...] = ()

    def to_json(self) -> dict:
        """Return the prediction as a JSON object, without pictures; ``error`` only where there is one."""
        values = {name: value for name, value in asdict(self).items() if name != "pictures"}
        return values if self.error else {name: value for name, value in values.items() if name != "error"}


@dataclass(frozen=True)
class Seen:
    """What the encoders say of a clip.

    Attributes:
        features: ``video_features`` and ``context_features``, see `generate_answers`.
        pictures: The frames; empty unless asked for.
    """

    features: Mapping[str, Tensor]
    pictures: tuple[Picture, ...] = ()


class Pipeline:
    """Answers about clips.

    Args:
        finetuned: What is loaded, onto a GPU if there is one.
        precision: Of the language model, ``bf16`` or ``fp32``, with the adapter merged into it, so that `as_base` is
            not possible; or ``auto``: as the evaluation, on a GPU that of the training, on a CPU float32.

    Attributes:
        model: The model, with its adapter.
        processor: Of the base.
    """

    def __init__(self, finetuned: Finetuned, precision: str = "auto"):
        self.finetuned = finetuned
        precisions = {"precision": precision, "on_cpu": precision}
        if precision == "auto":
            precisions = {"precision": finetuned.precision}
        base = load_for_inference(finetuned.paths, **precisions)
        self.model = load_finetuned(base, finetuned.adapter) if finetuned.adapter else base
        if finetuned.adapter and precision != "auto":
            self.model = merge_adapter(self.model, DTYPES[precision])
        self.processor = MobileVideoGPTProcessor.from_pretrained(finetuned.paths.base)
        self.model.eval()
        self._graphs, self._graphs_of_base = decoding_graphs(self.model), decoding_graphs(self.model)

    @property
    def bounds(self) -> FrameBounds:
        """How many frames of a clip are read."""
        return FrameBounds(self.processor.min_frames, self.processor.max_frames)

    @overload
    def __call__(self, clips: str | Path, prompt: str | None = None, **options) -> str: ...
    @overload
    def __call__(self, clips: Sequence[str | Path], prompt: str | None = None, **options) -> list[str]: ...

    def __call__(self, clips, prompt=None, **options):
        """Return the answer about a clip, or for a list of clips a list of answers.

        Args:
            clips: Paths; ``clip.mp4#t=2,7.5`` is the part from second 2 to 7.5.
            prompt: The question; by default that of the training. ``{exercise}`` in it is filled in.
            options: ``exercise``, ``batch_size`` and ``max_new_tokens``, as those of `predict`.

        Raises:
            InputError: If a clip cannot be read, or its exercise is needed and not known.
        """
        one = isinstance(clips, str | Path)
        answers = []
        for found in self.predict([str(clips)] if one else list(map(str, clips)), prompt, **options):
            if found.error:
                raise InputError(found.error)
            answers.append(found.answer)
        return answers[0] if one else answers

    def predict(
        self,
        clips: Sequence[str],
        prompt: str | None = None,
        *,
        exercise: str | None = None,
        batch_size: int = 4,
        max_new_tokens: int = LONGEST_ANSWER,
        workers: int | None = None,
        with_pictures: bool = False,
    ) -> Iterator[Prediction]:
        """Yield a prediction for each clip, in order; other processes decode the next clips meanwhile.

        Args:
            clips: Paths.
            prompt: See `__call__`.
            exercise: The exercise of all clips; see `Prompts.of`.
            batch_size: Clips that are answered about together.
            max_new_tokens: Longest answer, in tokens.
            workers: Processes that decode; one a core by default.
            with_pictures: Whether to keep the frames, small.

        Raises:
            InputError: If no prompt is known, or the memory is too small.
        """
        clips_named(clips)
        prompts = self.prompts(prompt)
        workers = workers or os.cpu_count() or 1
        with frames_ahead(clips, self.bounds, workers, batch_size + workers) as frames:
            waiting = list(clips)
            while waiting:
                batch, waiting = waiting[:batch_size], waiting[batch_size:]
                read = [next(frames) for _ in batch]
                yield from self._answer_batch(batch, read, prompts, exercise, max_new_tokens, with_pictures)

    def prompts(self, prompt: str | None = None) -> Prompts:
        """Return what fills the prompt, by default that of the training.

        Raises:
            InputError: If none is given or known.
        """
        template = prompt or self.finetuned.prompt
        if not template:
            raise InputError(f"{self.finetuned.name}: {NO_PROMPT}")
        return Prompts(template, self.finetuned.data_root, self.finetuned.exercises)

    def _answer_batch(
        self,
        clips: Sequence[str],
        frames: Sequence[Frames | InputError],
        prompts: Prompts,
        exercise: str | None,
        max_new_tokens: int,
        with_pictures: bool,
    ) -> list[Prediction]:
        found: list[Prediction] = []
        for clip, read in zip(clips, frames, strict=True):
            try:
                question = prompts.of(clip, exercise)
            except InputError as error:
                found.append(Prediction(clip, None, None, error=str(error)))
            else:
                wrong = str(read) if isinstance(read, InputError) else None
                found.append(Prediction(clip, question, None, error=wrong))
        asked = [i for i, prediction in enumerate(found) if not prediction.error]
        if not asked:
            return found
        try:
            seen = self.see([cast(Frames, frames[i]) for i in asked], with_pictures)
            questions = [found[i].prompt or "" for i in asked]
            features = [of_clip.features for of_clip in seen]
            options = {"max_new_tokens": max_new_tokens, "graphs": self._graphs}
            answers = generate_answers(self.model, self.processor, questions, features, **options)
        except torch.OutOfMemoryError:
            raise InputError(
                f"the memory is too small for {len(asked)} clips at a time; use a smaller batch size"
            ) from None
        for i, of_clip, answer in zip(asked, seen, answers, strict=True):
            found[i] = Prediction(clips[i], found[i].prompt, answer.text, answer.cut, pictures=of_clip.pictures)
        return found

    def see(self, clips: Sequence[Frames], with_pictures: bool = False) -> list[Seen]:
        """Encode the frames of clips in one batch, as for training: in float32, without autocast.

        Args:
            clips: Frames of each clip, as `mobilevideogpt.video.frames.clip_frames` returns them.
            with_pictures: Whether to return the frames as pictures, too.
        """
        pixels = standardise(clips, self.processor.max_frames, self.model.device)
        encoded = encode(self.model, pixels, torch.float32)
        seen = []
        for i, frames in enumerate(clips):
            features = {name: encoded[name][i] for name in FEATURES}
            chosen = chosen_frames(encoded[SCORES][i], self.model.config)["chosen"] if with_pictures else []
            seen.append(Seen(features, _pictures(frames, chosen) if with_pictures else ()))
        return seen

    def stream(self, seen: Seen, prompt: str, max_new_tokens: int = LONGEST_ANSWER) -> Iterator[str]:
        """Yield the answer to a complete prompt in pieces, as they are generated."""
        streamer = TextIteratorStreamer(self.processor.tokenizer, skip_prompt=True, skip_special_tokens=True)
        failures: list[BaseException] = []

        def generate() -> None:
            try:
                options = {"max_new_tokens": max_new_tokens, "streamer": streamer, "graphs": self._graphs}
                generate_answers(self.model, self.processor, [prompt], [seen.features], **options)
            except BaseException as error:
                failures.append(error)
                streamer.end()

        thread = Thread(target=generate, daemon=True)
        thread.start()
        try:
            yield from filter(None, streamer)
        finally:  # also if nobody wants the rest: the model is free again after the block
            thread.join()
        if failures:
            raise failures[0]

    @contextmanager
    def as_base(self) -> Iterator[bool]:
        """Within the block, answer as the base does, before the fine-tuning; yield whether that is possible.

        It is not for a merged checkpoint and for weights that were trained as a whole, since the base is gone.
        """
        if isinstance(self.model, PeftModel):
            with self.model.disable_adapter():
                self._graphs, self._graphs_of_base = self._graphs_of_base, self._graphs
                try:
                    yield True
                finally:
                    self._graphs, self._graphs_of_base = self._graphs_of_base, self._graphs
        else:
            yield False


def _pictures(frames: Frames, chosen: Sequence[int]) -> tuple[Picture, ...]:
    found = []
    for i, frame in enumerate(frames["pixel_values_videos"]):
        data = io.BytesIO()
        Image.fromarray(frame).resize((PICTURE_SIDE, PICTURE_SIDE)).save(data, "JPEG", quality=80)
        src = f"data:image/jpeg;base64,{base64.b64encode(data.getvalue()).decode()}"
        found.append(Picture(src, i in chosen))
    return tuple(found)


def load(run: str | Path, precision: str = "auto") -> Pipeline:
    """Load a fine-tuned model for answers about clips.

    ::

        pipeline = mobilevideogpt.load("results/try2")
        print(pipeline("clip.mp4"))

    Args:
        run: Name or folder of a run, folder of an adapter or an export, or a repository of the hub, ``owner/name``.
        precision: See `Pipeline`.

    Raises:
        InputError: If there is no such model, a file is damaged, or its base is missing or another one.
    """
    finetuned = find_finetuned(run)
    warn_of_toy(finetuned)
    return Pipeline(finetuned, precision)


def warn_of_toy(finetuned: Finetuned, clips: Sequence[str] = ()) -> None:
    """Warn that the sample's tiny base says nothing about real clips, unless all clips are the sample's own."""
    if finetuned.is_toy and not (clips and all("dataset/sample/" in clip for clip in clips)):
        log.warning("%s: %s", finetuned.name, TOY)
