"""An articulated figure: its proportions, its pose over time, and the resulting positions of its joints.

Metres and degrees. The figure faces +x, its left is +y, the floor is z = 0. A pose has one value or one
for each frame; joints are ``(n, len(JOINTS), 3)`` for n frames.
"""

from dataclasses import dataclass, field

import numpy as np

Curve = float | np.ndarray  # one value, or one for each frame
Vector = tuple[Curve, Curve, Curve]

JOINTS = ("pelvis", "waist", "chest", "neck", "head", "nose")
PARTS = ("shoulder", "elbow", "wrist", "hand", "hip", "knee", "ankle", "toe")
SIDES = (("left", 1), ("right", -1))
JOINTS += tuple(f"{side}_{part}" for side, _ in SIDES for part in PARTS)
J = {name: number for number, name in enumerate(JOINTS)}

# Height of a joint's centre in metres when it rests on the floor.
REST = {"ankle": 0.08, "toe": 0.03, "knee": 0.055, "wrist": 0.035, "elbow": 0.045, "pelvis": 0.11, "chest": 0.12}


@dataclass(frozen=True)
class Body:
    """Lengths in metres; ``girth`` scales all thicknesses."""

    thigh: float = 0.42
    shin: float = 0.41
    hip: float = 0.09  # half the distance between the hip joints
    trunk: float = 0.50  # pelvis to neck
    shoulder: float = 0.18  # half the distance between the shoulder joints
    upper_arm: float = 0.28
    forearm: float = 0.25
    foot: float = 0.17
    head: float = 0.105  # radius
    girth: float = 1.0

    @property
    def arm(self) -> float:
        """Shoulder to wrist."""
        return self.upper_arm + self.forearm

    @property
    def leg(self) -> float:
        """Hip to ankle."""
        return self.thigh + self.shin

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Body":
        """Draw the proportions of an adult."""
        size, leg, width = rng.uniform(0.92, 1.08), rng.uniform(0.96, 1.04), rng.uniform(0.9, 1.12)
        return cls(
            thigh=0.42 * size * leg,
            shin=0.41 * size * leg,
            hip=0.09 * width,
            trunk=0.50 * size,
            shoulder=0.18 * size * width,
            upper_arm=0.28 * size * leg,
            forearm=0.25 * size * leg,
            foot=0.17 * size,
            head=0.105 * size**0.5,
            girth=rng.uniform(0.85, 1.2),
        )


@dataclass
class Swing:
    """A limb given by its joint angles; with zeros it hangs along the trunk.

    ``flex`` raises it forward (180 is overhead), ``abduct`` outward, ``twist`` turns it outward about its own axis,
    ``bend`` closes knee or elbow, ``point`` extends the foot or bends the hand up.
    """

    flex: Curve = 0.0
    abduct: Curve = 0.0
    twist: Curve = 0.0
    bend: Curve = 0.0
    point: Curve = 0.0


@dataclass
class Reach:
    """A limb whose wrist or ankle is at ``target``: a point, or a joint's name plus ``offset``.

    ``pole`` is the direction of the knee or elbow, ``end`` that of foot or hand (None: the hand follows the arm).
    """

    target: str | Vector
    pole: Vector = (1.0, 0.0, 0.0)
    end: Vector | None = None
    offset: Vector = (0.0, 0.0, 0.0)


@dataclass
class Pose:
    """Position and angles of pelvis, spine and neck, and the limbs as ``[left, right]``.

    ``pitch`` tips forward, ``roll`` to the right, ``yaw`` turns left; the spine's angles are spread over its length.
    Without ``anchor``, (x, y, z) is the pelvis. ``anchor`` names joints of swinging limbs. With it the figure is moved
    so that the middle of these joints is at (x, y) and the lowest of them rests at height ``z`` above the floor.
    """

    x: Curve = 0.0
    y: Curve = 0.0
    z: Curve = 0.0
    pitch: Curve = 0.0
    roll: Curve = 0.0
    yaw: Curve = 0.0
    spine_pitch: Curve = 0.0
    spine_roll: Curve = 0.0
    spine_yaw: Curve = 0.0
    neck_pitch: Curve = 0.0
    neck_roll: Curve = 0.0
    neck_yaw: Curve = 0.0
    arms: list = field(default_factory=lambda: [Swing(abduct=8, bend=12), Swing(abduct=8, bend=12)])
    legs: list = field(default_factory=lambda: [Swing(), Swing()])
    anchor: tuple = ()
    posture: str = "standing"


def _rotation(axis: int, degrees, n: int) -> np.ndarray:
    """Return rotation matrices about x, y or z, ``(n, 3, 3)``."""
    angle = np.radians(np.broadcast_to(degrees, n))
    matrix = np.zeros((n, 3, 3))
    a, b = (axis + 1) % 3, (axis + 2) % 3
    matrix[:, axis, axis] = 1
    matrix[:, a, a] = matrix[:, b, b] = np.cos(angle)
    matrix[:, b, a] = np.sin(angle)
    matrix[:, a, b] = -matrix[:, b, a]
    return matrix


def _points(value, n: int) -> np.ndarray:
    """Stack three coordinates, each one number or n, to ``(n, 3)``."""
    return np.stack([np.broadcast_to(np.asarray(v, float), n) for v in value], axis=1)


def _unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.maximum(np.linalg.norm(vectors, axis=-1, keepdims=True), 1e-9)


def _bend_to(start, target, pole, upper, lower):
    """Return middle and end of a two-bone limb that reaches for ``target``, as far as its length permits."""
    line = target - start
    reach = np.linalg.norm(line, axis=1, keepdims=True)
    length = np.clip(reach, abs(upper - lower) + 1e-3, upper + lower - 1e-4)
    line = line / np.maximum(reach, 1e-9)
    pole = _unit(pole - line * (pole * line).sum(1, keepdims=True))
    along = (upper**2 - lower**2 + length**2) / (2 * length)
    out = np.sqrt(np.maximum(upper**2 - along**2, 0))
    return start + line * along + pole * out, start + line * length


def solve(body: Body, pose: Pose, n: int) -> np.ndarray:
    """Compute the joint positions of n frames, ``(n, len(JOINTS), 3)``."""
    p = np.zeros((n, len(JOINTS), 3))
    pelvis = _rotation(2, pose.yaw, n) @ _rotation(1, pose.pitch, n) @ _rotation(0, pose.roll, n)
    half = [np.asarray(v) / 2 for v in (pose.spine_yaw, pose.spine_pitch, pose.spine_roll)]
    bend = _rotation(2, half[0], n) @ _rotation(1, half[1], n) @ _rotation(0, half[2], n)
    loin = pelvis @ bend
    chest = loin @ bend
    head = chest @ _rotation(2, pose.neck_yaw, n) @ _rotation(1, pose.neck_pitch, n) @ _rotation(0, pose.neck_roll, n)
    p[:, J["waist"]] = pelvis[:, :, 2] * body.trunk * 0.28
    p[:, J["chest"]] = p[:, J["waist"]] + loin[:, :, 2] * body.trunk * 0.40
    p[:, J["neck"]] = p[:, J["chest"]] + chest[:, :, 2] * body.trunk * 0.32
    p[:, J["head"]] = p[:, J["neck"]] + head @ np.array([0.02, 0, body.head + 0.07])
    p[:, J["nose"]] = p[:, J["head"]] + head[:, :, 0] * body.head
    for side, s in SIDES:
        p[:, J[f"{side}_hip"]] = pelvis[:, :, 1] * s * body.hip
        p[:, J[f"{side}_shoulder"]] = p[:, J["neck"]] + chest @ np.array([0, s * body.shoulder, -0.03])

    def swing(limb, frame, s, names, upper, lower, tip, arm):
        start = p[:, J[names[0]]]
        frame = frame @ _rotation(1, -np.asarray(limb.flex), n) @ _rotation(0, s * np.asarray(limb.abduct), n)
        frame = frame @ _rotation(2, s * np.asarray(limb.twist), n)
        p[:, J[names[1]]] = start - frame[:, :, 2] * upper
        frame = frame @ _rotation(1, np.asarray(limb.bend) * (-1 if arm else 1), n)
        p[:, J[names[2]]] = p[:, J[names[1]]] - frame[:, :, 2] * lower
        if arm:
            hand = frame @ _rotation(1, -np.asarray(limb.point), n)
            p[:, J[names[3]]] = p[:, J[names[2]]] - hand[:, :, 2] * tip
        else:
            foot = frame @ _rotation(1, 14 + np.asarray(limb.point), n)
            p[:, J[names[3]]] = p[:, J[names[2]]] + foot[:, :, 0] * tip

    def reach(limb, names, upper, lower, tip, arm):
        named = isinstance(limb.target, str)
        target = p[:, J[limb.target]] + _points(limb.offset, n) if named else _points(limb.target, n)
        middle, end = _bend_to(p[:, J[names[0]]], target, _points(limb.pole, n), upper, lower)
        p[:, J[names[1]]], p[:, J[names[2]]] = middle, end
        if arm and limb.end is None:
            along = _unit(end - middle)
        else:
            along = _unit(_points(limb.end if limb.end is not None else (1, 0, -0.3), n))
        p[:, J[names[3]]] = end + along * tip

    legs = [[f"{side}_{part}" for part in ("hip", "knee", "ankle", "toe")] for side, _ in SIDES]
    arms = [[f"{side}_{part}" for part in ("shoulder", "elbow", "wrist", "hand")] for side, _ in SIDES]
    for limbs, names, frame, sizes, arm in (
        (pose.legs, legs, pelvis, (body.thigh, body.shin, body.foot), False),
        (pose.arms, arms, chest, (body.upper_arm, body.forearm, 0.08), True),
    ):
        for limb, name, (_, s) in zip(limbs, names, SIDES, strict=True):
            if isinstance(limb, Swing):
                swing(limb, frame, s, name, *sizes, arm)
    place = _points((pose.x, pose.y, pose.z), n)
    if pose.anchor:
        anchors = p[:, [J[name] for name in pose.anchor]]
        place[:, :2] -= anchors[:, :, :2].mean(axis=1)
        rest = [REST[name.split("_")[-1]] for name in pose.anchor]
        place[:, 2] -= (anchors[:, :, 2] - rest).min(axis=1)
    p += place[:, None]
    for limbs, names, sizes, arm in (
        (pose.legs, legs, (body.thigh, body.shin, body.foot), False),
        (pose.arms, arms, (body.upper_arm, body.forearm, 0.08), True),
    ):
        for limb, name in zip(limbs, names, strict=True):
            if isinstance(limb, Reach):
                reach(limb, name, *sizes, arm)
    return p
