"""A description of a movement in a few short words, measured from its joints."""

from typing import TypedDict

import numpy as np

from mobilevideogpt.sample.figure import PARTS, SIDES, J

BENDS = ((25, "straight"), (62, "slight"), (92, "half"), (181, "deep"))


class Attributes(TypedDict):
    """A word, or a whole number, for each attribute of a movement."""

    posture: str
    arms_move: str
    legs_move: str
    arms: str
    elbows: str
    elbow_degrees: int
    knee_bend: str
    knee_degrees: int
    knees: str
    trunk: str
    jump: str
    jump_centimetres: int
    highest_foot: str
    chest: str
    motion: str
    tempo: str


def _word(value: float, steps) -> str:
    return next(word for limit, word in steps if value < limit)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)


def flexion(joints: np.ndarray, side: str, upper: str, middle: str, lower: str) -> np.ndarray:
    """Return the flexion of a knee or elbow in degrees, ``(n,)``; 0 is straight."""
    a, b, c = (joints[:, J[f"{side}_{name}"]] for name in (upper, middle, lower))
    return np.degrees(np.arccos(np.clip((_unit(b - a) * _unit(c - b)).sum(-1), -1, 1)))


def knee_flexion(joints: np.ndarray) -> np.ndarray:
    """Return the flexion of the left and the right knee in degrees, ``(n, 2)``."""
    return np.stack([flexion(joints, side, "hip", "knee", "ankle") for side, _ in SIDES], axis=1)


def hip_deviation(joints: np.ndarray) -> np.ndarray:
    """Return the height of the pelvis above the line from shoulders to knees in metres, ``(n,)``; negative: sagging."""
    shoulder, knee = ((joints[:, J[f"left_{p}"]] + joints[:, J[f"right_{p}"]]) / 2 for p in ("shoulder", "knee"))
    line, pelvis = knee - shoulder, joints[:, J["pelvis"]]
    part = ((pelvis - shoulder) * line).sum(-1) / np.maximum((line * line).sum(-1), 1e-9)
    return (pelvis - shoulder - part[:, None] * line)[:, 2]


def _local(joints, origin, tip, left, right, points) -> np.ndarray:
    """Return points in the frame of a part of the trunk (forward, left, up), ``(n, points, 3)``."""
    up = _unit(joints[:, J[tip]] - joints[:, J[origin]])
    across = joints[:, J[left]] - joints[:, J[right]]
    across = _unit(across - up * (across * up).sum(-1, keepdims=True))
    frame = np.stack([np.cross(across, up), across, up], axis=1)
    moved = joints[:, [J[name] for name in points]] - joints[:, J[tip], None]
    return np.einsum("nij,npj->npi", frame, moved)


def _limbs(places: np.ndarray) -> str:
    """Tell which of two limbs move, and how, from the places of their ends in the trunk's frame, ``(n, 2, 3)``."""
    spread = np.ptp(places, axis=0).max(-1)
    if spread.max() < 0.12:
        return "still"
    if spread.min() < 0.35 * spread.max():
        return "left" if spread[0] > spread[1] else "right"
    mirrored = places * [[[1, 1, 1], [1, -1, 1]]]
    axis = np.ptp(mirrored, axis=0).max(0).argmax()
    left, right = mirrored[:, 0, axis], mirrored[:, 1, axis]
    return "together" if np.corrcoef(left, right)[0, 1] > 0.3 else "alternating"


def _arms(hands: np.ndarray, elbows: np.ndarray, joints: np.ndarray, posture: str) -> str:
    """Tell where the hands are at their highest; hands and elbows are relative to the neck, in the chest's frame."""
    wrists = joints[:, [J["left_wrist"], J["right_wrist"]]]
    if wrists[..., 2].max() < 0.22:
        return "on the floor"
    for i, (side, _) in enumerate(SIDES):
        folded = flexion(joints, side, "shoulder", "elbow", "wrist") > 95
        raised = elbows[:, i, 2] > 0.1
        if (folded & raised & (hands[:, i, 0] < 0.08)).mean() > 0.5:
            return "behind the head"
    for part in ("knee", "hip"):
        rests = [J[f"{side}_{part}"] for side, _ in SIDES]
        away = np.linalg.norm(joints[:, rests] - wrists, axis=-1).max()
        if away < 0.25 and (part == "knee" or flexion(joints, "left", "shoulder", "elbow", "wrist").min() > 50):
            return f"on the {part}s"
    frame, hand = np.unravel_index(hands[..., 2].argmax(), hands.shape[:2])
    ahead, side, up = hands[frame, hand]
    if up > 0.3:
        return "forward" if posture in ("all fours", "plank", "kneeling plank") else "overhead"
    if up > -0.15:
        elbow = flexion(joints, SIDES[hand][0], "shoulder", "elbow", "wrist")[frame]
        if elbow > 100:
            return "at the chest"
        return "forward" if ahead > abs(side) - 0.15 else "sideways"
    return "down"


def attributes(joints: np.ndarray, posture: str, period: float) -> Attributes:
    """Describe a movement.

    Args:
        joints: Metres, ``(n, joints, 3)``.
        posture: `Pose.posture`.
        period: Seconds a repetition.
    """
    knees = knee_flexion(joints)
    bent = np.stack([flexion(joints, side, "shoulder", "elbow", "wrist") for side, _ in SIDES], axis=1)
    ends = [f"{side}_{part}" for part in ("wrist", "elbow") for side, _ in SIDES]
    arms = _local(joints, "chest", "neck", "left_shoulder", "right_shoulder", ends)
    hands, elbows = arms[:, :2], arms[:, 2:]
    feet = _local(joints, "waist", "pelvis", "left_hip", "right_hip", ["left_ankle", "right_ankle"])
    jump = max(float(joints[..., 2].min(axis=1).max()) - 0.05, 0.0) * (posture == "standing")
    up = _unit(joints[:, J["neck"]] - joints[:, J["pelvis"]])
    lean = np.degrees(np.arctan2(up[:, :2], np.maximum(up[:, 2:], 1e-3)))  # forward, left
    if posture in ("plank", "kneeling plank"):
        trunk = _word(hip_deviation(joints).mean(), ((-0.06, "sagging"), (0.07, "straight"), (9, "piked")))
    elif posture in ("standing", "kneeling", "half kneeling", "seated"):
        frame, way = np.unravel_index(np.abs(lean).argmax(), lean.shape)
        worst = lean[frame, way]
        names = (("leaning backward", "leaning forward"), ("leaning right", "leaning left"))
        trunk = "upright" if abs(worst) < 18 else names[way][int(worst > 0)]
    else:
        low, high = (_unit(joints[:, J[b]] - joints[:, J[a]]) for a, b in (("pelvis", "waist"), ("chest", "neck")))
        bend = np.degrees(np.arccos(np.clip((low * high).sum(-1), -1, 1)))
        trunk = "straight" if bend.max() < 20 else "bending"
    frame = knees.min(axis=1).argmax()
    gap = {part: joints[frame, J[f"left_{part}"], 1] - joints[frame, J[f"right_{part}"], 1] for part in PARTS}
    squeeze = gap["knee"] - (gap["hip"] + gap["ankle"]) / 2
    squeeze *= posture == "standing" and knees[frame].min() > 30
    ends = joints[
        :,
        [J[name] for name in ("left_wrist", "right_wrist", "left_ankle", "right_ankle", "head", "pelvis", "left_knee")],
    ]
    path = ends[:, np.ptp(ends, axis=0).max(-1).argmax()]
    size = np.ptp(path, axis=0)
    spread = np.linalg.svd(path - path.mean(0), compute_uv=False)
    if size.max() < 0.07:
        shape = "static"
    elif spread[1] > 0.5 * spread[0]:
        shape = "circular"
    else:
        shape = ("forward and back", "side to side", "up and down")[size.argmax()]
    return {
        "posture": posture,
        "arms_move": _limbs(hands),
        "legs_move": _limbs(feet),
        "arms": _arms(hands, elbows, joints, posture),
        "elbows": _word(bent.max(), BENDS),
        "elbow_degrees": round(float(bent.max())),
        "knee_bend": _word(knees.max(), BENDS),
        "knee_degrees": round(float(knees.max())),
        "knees": _word(squeeze, ((-0.07, "in"), (0.09, "straight"), (9, "out"))),
        "trunk": trunk,
        "jump": _word(jump, ((0.015, "none"), (0.12, "low"), (9, "high"))),
        "jump_centimetres": round(100 * jump),
        "highest_foot": _word(
            joints[:, [J["left_ankle"], J["right_ankle"]], 2].max() - jump,
            ((0.2, "floor"), (0.42, "low"), (0.68, "knee"), (9, "hip")),
        ),
        "chest": _word(
            joints[:, J["chest"], 2].min(), ((0.22, "near the floor"), (0.5, "low"), (0.95, "middle"), (9, "high"))
        ),
        "motion": shape,
        "tempo": _word(period, ((1.5, "fast"), (2.2, "medium"), (9, "slow"))),
    }
