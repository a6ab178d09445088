"""The parts of a movement: a take, which is one performance of it, and curves over the phase of a repetition."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mobilevideogpt.sample.figure import REST, SIDES, Body, Curve, Pose, Reach


@dataclass
class Take:
    """One performance: the body, the seconds of each frame, the random stream, and the fault ("" for none)."""

    body: Body
    seconds: np.ndarray
    rng: np.random.Generator
    fault: str
    period: float  # seconds a repetition
    start: float = 0.0  # phase of the first frame, in repetitions
    side: int = 1  # of the body that works or begins; 1: left, -1: right

    @property
    def phase(self) -> np.ndarray:
        """Repetitions so far, with their fraction, ``(n,)``."""
        return self.seconds / self.period + self.start

    def range(self, fault: str, faulty: tuple[float, float], good: tuple[float, float]) -> float:
        """Draw from ``faulty`` if the take has ``fault``, else from ``good``; always one draw."""
        return self.rng.uniform(*(faulty if self.fault == fault else good))

    def sides(self, working, other) -> list:
        """Return ``[left, right]`` from the values of the working and the other side."""
        return [working, other] if self.side > 0 else [other, working]


@dataclass(frozen=True)
class Movement:
    """A movement with its faults and how it is filmed.

    Args:
        pose: Makes the pose of a take.
        faults: Labels of its possible faults.
        azimuth: Range of the camera's angle from straight ahead, degrees, either side.
        period: Range of the seconds per repetition.
        height: Range of the camera's height, metres.
    """

    pose: Callable[[Take], Pose]
    faults: tuple[str, ...]
    azimuth: tuple[float, float] = (10, 65)
    period: tuple[float, float] = (1.7, 2.7)
    height: tuple[float, float] = (0.8, 1.5)


def wave(phase) -> np.ndarray:
    """Return a smooth curve: 0 at whole repetitions, 1 halfway."""
    return 0.5 - 0.5 * np.cos(2 * np.pi * np.asarray(phase))


def keys(phase, *points: tuple[float, float]) -> np.ndarray:
    """Return a periodic curve through (phase, value) points, flat at each point and eased between them."""
    times, values = zip(*points, strict=True)
    times, values = np.array([*times, times[0] + 1]), np.array([*values, values[0]])
    at = (np.asarray(phase) - times[0]) % 1 + times[0]
    number = np.clip(np.searchsorted(times, at, side="right") - 1, 0, len(times) - 2)
    part = (at - times[number]) / np.maximum(times[number + 1] - times[number], 1e-9)
    return values[number] + (values[number + 1] - values[number]) * part * part * (3 - 2 * part)


def hold(phase) -> np.ndarray:
    """Return a curve from 0 to 1 and back, with a pause at the top."""
    return keys(phase, (0, 0), (0.1, 0), (0.4, 1), (0.65, 1), (0.95, 0))


def alternate(phase, curve=hold) -> tuple[np.ndarray, np.ndarray]:
    """Return ``curve`` for the even repetitions, and for the odd ones."""
    even = np.floor(phase) % 2 == 0
    value = curve(phase)
    return np.where(even, value, 0), np.where(even, 0, value)


def stand(
    take: Take,
    knee: Curve = 0.0,
    stance: Curve = 0.1,
    shin: float = 0.32,
    pole: Curve = 0.15,
    up: Curve = 0.0,
    toes: Curve = 0.0,
    **angles,
) -> Pose:
    """Stand with both feet on the floor, or ``up`` above it, and knees bent by ``knee`` degrees.

    Args:
        take: The performance whose body stands.
        knee: Flexion of both knees, degrees.
        stance: Half the distance between the ankles, metres.
        shin: Part of the flexion that tips the shins forward.
        pole: How far outward the knees point (negative: inward), against 1 forward.
        up: Height of the feet above the floor, metres.
        toes: Degrees by which the heels are raised over the toes.
        **angles: Fields of `Pose`.
    """
    body = take.body
    tilt, rest = np.radians(np.asarray(knee) * shin), np.radians(np.asarray(knee) * (1 - shin))
    lift = np.radians(toes)
    ankle_x = body.foot * (1 - np.cos(lift))
    ankle_z = REST["ankle"] + up + body.foot * np.sin(lift)
    end = (np.cos(lift), 0, -0.3 - np.sin(lift))
    x = body.shin * np.sin(tilt) - body.thigh * np.sin(rest) + ankle_x
    spread = np.asarray(stance) - body.hip
    height = body.shin * np.cos(tilt) + body.thigh * np.cos(rest)
    z = np.sqrt(np.maximum(height**2 - spread**2, 0.01)) * 0.998 + ankle_z
    legs = [Reach((ankle_x, s * np.asarray(stance), ankle_z), (1, s * np.asarray(pole), 0), end) for s in (1, -1)]
    return Pose(x=x, z=z, legs=legs, **angles)


def on_hips(body: Body) -> list[Reach]:
    """Return arms with the hands on the hips and the elbows out."""
    return [
        Reach(f"{side}_hip", (-0.5, s, 0.1), (0.5, -s * 0.6, -0.6), (0.02, s * 0.07 * body.girth, 0.1))
        for side, s in SIDES
    ]


def all_fours(body: Body) -> dict:
    """Return pitch and height of the pelvis on hands and knees, with upright thighs and arms."""
    z = body.thigh + REST["knee"]
    rise = (body.arm + REST["wrist"] - z) / (body.trunk - 0.03)
    pitch = 90 - np.degrees(np.arcsin(np.clip(rise, -0.5, 0.5)))
    return {"pitch": pitch, "z": z, "posture": "all fours"}
