"""Rendered clips: their joints, frames and labels, and the sample of the six exercises."""

from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from pathlib import Path

import av
import numpy as np

from mobilevideogpt.files import replacing, write_json
from mobilevideogpt.sample.attributes import Attributes, attributes
from mobilevideogpt.sample.drawing import Camera, Look, Painter, draw_room, place_camera
from mobilevideogpt.sample.exercises import ADVICE as EXERCISE_ADVICE
from mobilevideogpt.sample.exercises import EXERCISES
from mobilevideogpt.sample.figure import Body, solve
from mobilevideogpt.sample.motion import Take
from mobilevideogpt.sample.movements import ADVICE as MOVEMENT_ADVICE
from mobilevideogpt.sample.movements import MOVEMENTS, RANDOM, TOO_FAST
from mobilevideogpt.sample.names import EXERCISES as NAMES
from mobilevideogpt.sample.names import NO_ISSUE, clip_names

FPS = 30
FRAMES = 150
SIZE = (320, 240)
# Without x264's macroblock tree. With it, repeated encodings of equal frames differed on some processors, in one thread
# and in one process. The files are 1.7 times as large. Plain C code (asm=0) is stable, too, but slower. Processors of
# other vector instructions may still give other pixels.
ENCODER = {"crf": "20", "preset": "veryfast", "x264-params": "mbtree=0"}
# Without the version of FFmpeg, which is PyAV's or decord's, whichever was loaded first.
MUXER = {"movflags": "faststart", "fflags": "+bitexact"}
ADVICE = {**MOVEMENT_ADVICE, **EXERCISE_ADVICE}

# Faults that the clips of an exercise show in the sample; several alternate.
SAMPLE_FAULT = {name: EXERCISES[name].faults[:1] for name in NAMES} | {
    "squats": ("not going deep enough", "knees falling in"),
}
# True for the clips of an exercise that show no fault, five in a row.
SAMPLE_PATTERN = (True, False, False, True, False)


@dataclass(frozen=True)
class ClipSpec:
    """A clip: a movement, its variation (`NO_ISSUE` or one of its faults) and a seed that decides all else.

    ``movement`` is an exercise, a key of `MOVEMENTS`, or "random".
    """

    movement: str
    variation: str = NO_ISSUE
    seed: tuple[int, ...] = (0,)

    @property
    def label(self) -> str:
        """``<movement with spaces> - <variation>``."""
        return f"{self.movement.replace('_', ' ')} - {self.variation}"

    @property
    def descriptive_label(self) -> str:
        """The label with advice in place of the variation."""
        return f"{self.movement.replace('_', ' ')} - {ADVICE.get(self.variation, self.variation)}"


@dataclass(frozen=True)
class Scene:
    """A clip before it is drawn: joints in metres ``(FRAMES, joints, 3)``, body and camera."""

    joints: np.ndarray
    body: Body
    camera: Camera
    posture: str
    period: float


def find_movement(name: str):
    """Return the `Movement` with this name, or raise ValueError."""
    if name == "random":
        return RANDOM
    try:
        return EXERCISES[name] if name in EXERCISES else MOVEMENTS[name]
    except KeyError:
        raise ValueError(f"{name} is not a movement; choose from {', '.join([*EXERCISES, *MOVEMENTS])}") from None


@lru_cache(maxsize=4)
def _scene(spec: ClipSpec, size: tuple[int, int]) -> Scene:
    movement = find_movement(spec.movement)
    fault = "" if spec.variation == NO_ISSUE else spec.variation
    if fault and fault not in movement.faults:
        raise ValueError(f"{spec.movement} has no variation {fault!r}; choose from {', '.join(movement.faults)}")
    pose_rng, view_rng = (np.random.default_rng([*spec.seed, stream]) for stream in (0, 1))
    body = Body.draw(pose_rng)
    period, start, side = pose_rng.uniform(*movement.period), pose_rng.uniform(), pose_rng.choice([-1, 1])
    if fault == TOO_FAST:
        period = pose_rng.uniform(0.8, 0.95)
    take = Take(body, np.arange(FRAMES) / FPS, pose_rng, fault, period, start, int(side))
    pose = movement.pose(take)
    joints = solve(body, pose, FRAMES)
    azimuth = view_rng.uniform(*movement.azimuth) * view_rng.choice([-1, 1])
    camera = place_camera(joints, azimuth, view_rng.uniform(*movement.height), view_rng, size)
    return Scene(joints, body, camera, pose.posture, period)


def _chosen(indices) -> list[int]:
    return list(range(FRAMES) if indices is None else indices)


def joints(spec: ClipSpec, indices=None, size: tuple[int, int] = SIZE) -> tuple[np.ndarray, np.ndarray]:
    """Return joints of the frames at ``indices`` (None: all): metres ``(n, J, 3)`` and pixels ``(n, J, 2)``."""
    scene = _scene(spec, size)
    chosen = scene.joints[_chosen(indices)]
    return chosen, scene.camera.project(chosen)[0]


def frames(spec: ClipSpec, indices=None, size: tuple[int, int] = SIZE) -> np.ndarray:
    """Render the frames at ``indices`` (None: all), RGB uint8 ``(n, H, W, 3)``."""
    scene = _scene(spec, size)
    look_rng = np.random.default_rng([*spec.seed, 2])
    room = draw_room(scene.camera, scene.joints, look_rng, size)
    chosen = scene.joints[_chosen(indices)]
    painter = Painter(scene.camera, scene.body, Look.draw(look_rng), chosen)
    pictures = np.repeat(room[None], len(chosen), axis=0)
    for i, picture in enumerate(pictures):
        painter.paint(picture, i)
    return pictures


def describe(spec: ClipSpec) -> Attributes:
    """Describe the clip in words, by `attributes.attributes` of its joints."""
    scene = _scene(spec, SIZE)
    return attributes(scene.joints, scene.posture, scene.period)


def write_clip(spec: ClipSpec, path: str | Path) -> None:
    """Render and encode a clip as H.264 in MP4, whole or not at all, with the same bytes each time."""
    with replacing(path) as temporary, av.open(str(temporary), "w", options=MUXER) as container:
        stream = container.add_stream("libx264", rate=FPS, options=dict(ENCODER))
        stream.width, stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        stream.codec_context.thread_count = 1
        stream.codec_context.time_base = Fraction(1, FPS)
        for picture in frames(spec):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())


def sample_specs(seed: int = 0, clips_per_exercise: int = 5) -> dict[str, ClipSpec]:
    """Return the clips of the sample by path relative to its folder."""
    specs = {}
    for place, path in enumerate(clip_names(clips_per_exercise)):
        exercise, number = path.split("/")[0], place % clips_per_exercise
        faults = SAMPLE_FAULT[exercise]
        good = SAMPLE_PATTERN[number % len(SAMPLE_PATTERN)]
        variation = NO_ISSUE if good else faults[number % len(faults)]
        specs[path] = ClipSpec(exercise, variation, (seed, NAMES.index(exercise), number))
    return specs


def write_sample(folder: str | Path, seed: int = 0, clips_per_exercise: int = 5, split: str = "train"):
    """Write clips, ``fine_grained_labels.json`` and, last, ``manifest.json`` into ``folder``.

    Args:
        folder: Destination; clips that are there are replaced.
        seed: Decides people, rooms and movements.
        clips_per_exercise: Number of clips of each exercise.
        split: Value of the field ``split`` of the labels.
    """
    folder = Path(folder)
    (folder / "manifest.json").unlink(missing_ok=True)  # its presence means that the sample is complete
    specs = sample_specs(seed, clips_per_exercise)
    for path, spec in specs.items():
        write_clip(spec, folder / path)
    labels = [
        {"video_path": path, "labels": [spec.label], "labels_descriptive": [spec.descriptive_label], "split": split}
        for path, spec in specs.items()
    ]
    write_json(labels, folder / "fine_grained_labels.json")
    write_json({path: spec.movement for path, spec in specs.items()}, folder / "manifest.json")
