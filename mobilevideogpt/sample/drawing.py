"""Drawing of the room and the figure, and the camera, with OpenCV. Pixels are RGB uint8."""

from dataclasses import dataclass

import cv2
import numpy as np

from mobilevideogpt.sample.figure import Body, J

SHIFT = 4  # bits of sub-pixel precision

# Tapered parts between two joints: (from, to, radius at the first, radius at the second, clothing).
LIMBS = [
    (f"{side}_{a}", f"{side}_{b}", r, q, kind)
    for side in ("left", "right")
    for a, b, r, q, kind in (
        ("hip", "knee", 0.088, 0.058, "leg"),
        ("knee", "ankle", 0.058, 0.038, "shin"),
        ("ankle", "toe", 0.045, 0.032, "shoe"),
        ("shoulder", "elbow", 0.055, 0.042, "arm"),
        ("elbow", "wrist", 0.042, 0.030, "forearm"),
        ("wrist", "hand", 0.036, 0.034, "skin"),
    )
]
SLEEVES = [
    (f"{side}_{a}", f"{side}_{b}", r, q, kind)
    for side in ("left", "right")
    for a, b, r, q, kind in (("hip", "knee", 0.094, 0.072, "shorts"), ("shoulder", "elbow", 0.062, 0.052, "sleeve"))
]
PARTS = [*LIMBS, *SLEEVES]
CHEST = (("left_shoulder", 0.058), ("right_shoulder", 0.058), ("chest", 0.115), ("waist", 0.105), ("neck", 0.055))
LOIN = (("left_hip", 0.092), ("right_hip", 0.092), ("waist", 0.103), ("pelvis", 0.115))

SKIN = np.array([[244, 206, 178], [224, 172, 136], [198, 140, 100], [150, 98, 66], [104, 66, 46]])
HAIR = np.array([[32, 26, 24], [66, 42, 28], [122, 82, 46], [190, 152, 92], [120, 120, 124]])
_CLOTHES = [[206, 52, 60], [36, 92, 176], [40, 140, 90], [236, 184, 52], [120, 70, 150], [232, 232, 236]]
_CLOTHES += [[40, 44, 52], [236, 120, 50], [60, 170, 190], [210, 96, 140], [90, 96, 106], [30, 52, 96]]
CLOTHES = np.array(_CLOTHES)


@dataclass(frozen=True)
class Camera:
    """A level camera: rows of ``axes`` are right, down and forward; ``middle`` is the principal point in pixels."""

    place: np.ndarray
    axes: np.ndarray
    focal: float
    middle: np.ndarray

    def project(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return pixels ``(..., 2)`` and depth in metres ``(...)`` of points ``(..., 3)``."""
        seen = (points - self.place) @ self.axes.T
        depth = np.maximum(seen[..., 2], 0.1)
        return seen[..., :2] / depth[..., None] * self.focal + self.middle, depth


def place_camera(joints: np.ndarray, azimuth: float, height: float, rng, size: tuple[int, int]) -> Camera:
    """Place a camera that shows the whole movement within the middle square of the picture.

    Args:
        joints: All frames of the clip, ``(n, joints, 3)``.
        azimuth: Degrees from straight ahead of the figure, counter-clockwise.
        height: Metres above the floor.
        rng: Draws distance, zoom and framing.
        size: Width and height of the picture.
    """
    low, high = joints.min(axis=(0, 1)), joints.max(axis=(0, 1))
    centre = (low + high) / 2
    angle, distance = np.radians(azimuth), rng.uniform(3.4, 5.0)
    place = np.array([centre[0] + distance * np.cos(angle), centre[1] + distance * np.sin(angle), height])
    forward = (centre - place) / np.linalg.norm(centre - place)
    right = np.cross(forward, [0, 0, 1])
    right /= np.linalg.norm(right)
    axes = np.stack([right, np.cross(forward, right), forward])
    camera = Camera(place, axes, 1.0, np.zeros(2))
    flat, depth = camera.project(joints)
    margin = 0.13 / depth[..., None]
    first, last = (flat - margin).min(axis=(0, 1)), (flat + margin).max(axis=(0, 1))
    width, tall = size
    room = np.array([0.97 * tall, 0.96 * tall])
    focal = (room / (last - first)).min() * rng.uniform(0.88, 1.0)
    slack = (np.array([tall, tall]) - focal * (last - first)) / 2
    middle = np.array([width, tall]) / 2 - focal * (first + last) / 2 + slack * rng.uniform(-0.8, 0.8, 2)
    return Camera(place, axes, focal, middle)


@dataclass(frozen=True)
class Look:
    """Colours of the figure, uint8 RGB by kind of part, and the hair's style."""

    colours: dict[str, np.ndarray]
    bun: bool

    @classmethod
    def draw(cls, rng: np.random.Generator) -> "Look":
        """Draw skin, hair and clothes."""
        skin, hair = SKIN[rng.integers(len(SKIN))], HAIR[rng.integers(len(HAIR))]
        shirt, trousers, shoe = CLOTHES[rng.choice(len(CLOTHES), 3, replace=False)]
        long_sleeves, shorts = rng.random(2) < (0.3, 0.45)
        return cls(
            {
                "skin": skin,
                "hair": hair,
                "shirt": shirt,
                "trousers": trousers,
                "shoe": shoe,
                "sleeve": shirt,
                "shorts": trousers,
                "arm": shirt if long_sleeves else skin,
                "forearm": shirt if long_sleeves else skin,
                "leg": skin if shorts else trousers,
                "shin": skin if shorts else trousers,
            },
            bun=bool(rng.random() < 0.4),
        )


def draw_room(camera: Camera, joints: np.ndarray, rng, size: tuple[int, int]) -> np.ndarray:
    """Draw the empty room behind the figure, ``(H, W, 3)``."""
    width, height = size
    tone = rng.uniform(150, 235)
    wall = np.clip(tone + rng.uniform(-22, 22, 3), 90, 250)
    floor = np.clip(rng.uniform(95, 190) + np.array([14, 2, -14]) * rng.uniform(-0.6, 2), 60, 230)
    ahead = np.array([camera.axes[2, 0], camera.axes[2, 1], 0])
    ahead /= np.linalg.norm(ahead)
    middle = joints.mean(axis=(0, 1)) * [1, 1, 0]
    foot = middle + ahead * rng.uniform(1.5, 2.6)  # of the wall
    edge = int(np.clip(camera.project(foot)[0][1], 0.25 * height, 0.95 * height))
    rows, columns = np.linspace(0, 1, height)[:, None, None], np.linspace(-1, 1, width)[None, :, None]
    light = 1 - rng.uniform(0, 0.16) * rows + rng.uniform(-0.1, 0.1) * columns
    room = np.broadcast_to(wall * light, (height, width, 3)).copy()
    room[edge:] = floor * (0.86 + 0.2 * rows[edge:]) * (1 + 0 * columns)
    room = np.clip(room, 0, 255).astype(np.uint8)

    def area(points, colour):
        flat = camera.project(np.array(points))[0]
        cv2.fillConvexPoly(room, np.round(flat * 2**SHIFT).astype(np.int32), colour.tolist(), cv2.LINE_AA, SHIFT)

    def on_wall(x, y, w, h, colour):
        corners = [(x, y), (x + w, y), (x + w, y + h), (x, y + h)]
        area([foot + camera.axes[0] * a + np.array([0, 0, b]) for a, b in corners], colour)

    on_wall(-9, 0, 18, rng.uniform(0.06, 0.13), np.clip(wall * rng.uniform(0.6, 1.15), 0, 255))
    for x in rng.permutation([-1.6, 1.1])[: rng.integers(0, 3)]:
        colour = CLOTHES[rng.integers(len(CLOTHES))] * 0.4 + wall * 0.6
        kind, w = rng.integers(3), rng.uniform(0.45, 0.75)
        if kind == 0:  # a picture
            y = rng.uniform(1.2, 1.6)
            on_wall(x, y, w, w * 1.2, wall * 0.55)
            on_wall(x + 0.04, y + 0.04, w - 0.08, w * 1.2 - 0.08, colour)
        elif kind == 1:  # a door
            on_wall(x, 0, w + 0.25, 2.05, colour)
        else:  # a chest of drawers
            on_wall(x, 0, w, rng.uniform(0.4, 0.9), colour)
    if rng.random() < 0.6:  # a mat
        low, high = joints.min(axis=(0, 1)) - 0.2, joints.max(axis=(0, 1)) + 0.2
        colour = CLOTHES[rng.integers(len(CLOTHES))] * 0.5 + floor * 0.5
        area([(low[0], low[1], 0), (high[0], low[1], 0), (high[0], high[1], 0), (low[0], high[1], 0)], colour)
    return room


def _capsules(start, end, r, q) -> np.ndarray:
    """Outline tapered capsules, in pixels: from ends ``(..., 2)`` and radii ``(...)`` to ``(..., 16, 2)``."""
    line = end - start
    length = np.maximum(np.linalg.norm(line, axis=-1), 1e-6)
    angle = np.arctan2(line[..., 1], line[..., 0])
    tilt = np.arccos(np.clip((r - q) / length, -1, 1))
    steps = np.linspace(0, 1, 8)
    back = (angle + tilt)[..., None] + (2 * np.pi - 2 * tilt)[..., None] * steps
    front = (angle - tilt)[..., None] + (2 * tilt)[..., None] * steps

    def arc(centre, radius, a):
        return centre[..., None, :] + radius[..., None, None] * np.stack([np.cos(a), np.sin(a)], axis=-1)

    return np.concatenate([arc(start, r, back), arc(end, q, front)], axis=-2)


class Painter:
    """Draws the frames of a clip; `__init__` computes the geometry of all frames at once."""

    def __init__(self, camera: Camera, body: Body, look: Look, joints: np.ndarray):
        self.look = look
        flat, depth = camera.project(joints)
        self.flat, self.depth = flat, depth
        scale = camera.focal / depth * body.girth  # pixels per metre of thickness
        a, b = np.array([J[first] for first, *_ in PARTS]), np.array([J[second] for _, second, *_ in PARTS])
        r, q = (np.array([part[i] for part in PARTS]) for i in (2, 3))
        start, end = flat[:, a], flat[:, b]
        end[:, len(LIMBS) :] = start[:, len(LIMBS) :] * 0.5 + end[:, len(LIMBS) :] * 0.5
        r, q = scale[:, a] * r, scale[:, b] * q
        self.outer = np.round(_capsules(start, end, r + 1.1, q + 1.1) * 2**SHIFT).astype(np.int32)
        self.inner = np.round(_capsules(start, end, r, q) * 2**SHIFT).astype(np.int32)
        self.part_depth = (depth[:, a] + depth[:, b]) / 2
        middle = depth[:, J["chest"], None]
        across = joints[:, b, 2] - joints[:, a, 2]
        reach = np.maximum(np.linalg.norm(joints[:, b] - joints[:, a], axis=-1), 1e-6)
        level = 1 - np.abs(across) / reach  # level limbs are lit from above
        nearer = middle - (depth[:, a] + depth[:, b]) / 2
        self.shade = np.clip(0.92 + 0.10 * level + 0.75 * nearer, 0.62, 1.12)
        self.hulls = []
        for joints_of in (LOIN, CHEST):
            index = np.array([J[name] for name, _ in joints_of])
            radius = scale[:, index] * np.array([size for _, size in joints_of])
            rings = [
                np.round(_capsules(flat[:, index], flat[:, index] + 1e-3, radius + d, radius + d) * 2**SHIFT)
                for d in (1.1, 0)
            ]
            self.hulls.append([ring.astype(np.int32).reshape(len(flat), -1, 2) for ring in rings])
        self.torso_depth = depth[:, [J["pelvis"], J["chest"]]]
        self.head_radius = camera.focal / depth[:, J["head"]] * body.head
        self.floor = camera.project(joints * [1, 1, 0])[0]
        self.heights = joints[..., 2]
        self.scale = scale

    def shadow(self, frame: np.ndarray, i: int) -> None:
        """Darken the floor below the parts near it."""
        height, width = frame.shape[:2]
        small = np.zeros((height // 4, width // 4), np.uint8)
        spots = self.floor[i] / 4
        for a, b, r, *_ in sorted(
            [*LIMBS, ("pelvis", "chest", 0.14), ("chest", "head", 0.1)],
            key=lambda part: -self.heights[i, J[part[0]]] - self.heights[i, J[part[1]]],
        ):
            a, b = J[a], J[b]
            above = (self.heights[i, a] + self.heights[i, b]) / 2
            dark = int(130 * max(1 - above / 1.3, 0.12))
            thick = max(int(self.scale[i, a] * r / 3), 1)
            first, second = (tuple(np.round(spots[j]).astype(int).tolist()) for j in (a, b))
            cv2.line(small, first, second, dark, thick)
        small = cv2.GaussianBlur(small, (5, 5), 0)
        mask = cv2.cvtColor(
            cv2.resize(255 - small, (width, height), interpolation=cv2.INTER_LINEAR), cv2.COLOR_GRAY2RGB
        )
        cv2.multiply(frame, mask, frame, scale=1 / 255)

    def paint(self, frame: np.ndarray, i: int) -> None:
        """Draw the shadow and the figure of frame ``i`` onto ``frame``."""
        self.shadow(frame, i)
        order = [(self.part_depth[i, k], k) for k in range(len(LIMBS))]
        order += [(self.torso_depth[i, k], -1 - k) for k in range(2)] + [(self.depth[i, J["head"]], -3)]
        for _, k in sorted(order, reverse=True):
            if k >= 0:
                self._limb(frame, i, k)
            elif k == -3:
                self._head(frame, i)
            else:
                self._torso(frame, i, -1 - k)

    def _polygon(self, frame, outer, inner, colour) -> None:
        cv2.fillConvexPoly(frame, outer, (colour * 0.5).tolist(), cv2.LINE_AA, SHIFT)
        cv2.fillConvexPoly(frame, inner, colour.tolist(), cv2.LINE_AA, SHIFT)

    def _limb(self, frame, i, k) -> None:
        parts = [k]
        if LIMBS[k][4] in ("leg", "arm"):
            parts.append(len(LIMBS) + 2 * (k >= len(LIMBS) // 2) + (LIMBS[k][4] == "arm"))
        for part in parts:
            colour = np.minimum(self.look.colours[PARTS[part][4]] * self.shade[i, part], 255)
            self._polygon(frame, self.outer[i, part], self.inner[i, part], colour)

    def _torso(self, frame, i, k) -> None:
        outer, inner = (cv2.convexHull(ring[i])[:, 0] for ring in self.hulls[k])
        colour = self.look.colours["trousers" if k == 0 else "shirt"] * (0.93 if k == 0 else 1.0)
        self._polygon(frame, outer, inner, colour)

    def _head(self, frame, i) -> None:
        skin, hair = self.look.colours["skin"], self.look.colours["hair"]
        head, neck, nose = (self.flat[i, J[name]] for name in ("head", "neck", "nose"))
        radius = self.head_radius[i]
        up = head - neck
        up = up / max(np.hypot(*up), 1e-6)
        away = self.depth[i, J["nose"]] > self.depth[i, J["head"]]
        ring = _capsules(
            neck[None], (head - up * radius * 0.6)[None], np.array([radius * 0.5]), np.array([radius * 0.5])
        )
        ring = np.round(ring[0] * 2**SHIFT).astype(np.int32)
        cv2.fillConvexPoly(frame, ring, (skin * 0.85).tolist(), cv2.LINE_AA, SHIFT)
        ahead = nose - head

        def disc(centre, size, colour):
            point = np.round(centre * 2**SHIFT).astype(int).tolist()
            cv2.circle(frame, point, int(size * 2**SHIFT), colour.tolist(), -1, cv2.LINE_AA, SHIFT)

        crown = head - ahead * 0.28 + up * radius * 0.22
        if self.look.bun:
            disc(head - ahead * 1.05 + up * radius * 0.5, radius * 0.42, hair * 0.9)
        if away:
            disc(head + ahead * 0.12, radius, skin)
            disc(crown, radius, hair)
        else:
            disc(crown, radius * 1.04, hair)
            disc(head + ahead * 0.16 - up * radius * 0.14, radius * 0.86, skin)
            disc(head + ahead * 0.95, radius * 0.16, skin * 0.72)
