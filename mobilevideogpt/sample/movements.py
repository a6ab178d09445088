"""Movements that train the tiny base checkpoint. They and their faults differ from the six exercises."""

from collections.abc import Callable

import numpy as np

from mobilevideogpt.sample.figure import REST, SIDES, Curve, Pose, Reach, Swing
from mobilevideogpt.sample.motion import Movement, Take, all_fours, alternate, hold, keys, on_hips, stand, wave

TOO_FAST = "too fast"
ADVICE = {
    "partial range": "Use the full range of motion.",
    TOO_FAST: "Slow down and control every repetition.",
    "arms too low": "Raise the arms higher.",
    "leg too low": "Raise the leg higher.",
    "knees too low": "Bring the knees higher.",
    "elbows flexed": "Straighten the elbows.",
    "knees flexed": "Straighten the knees.",
    "tipping forward": "Keep the chest up.",
    "tipping backward": "Do not lean backward.",
    "tipping sideways": "Keep the trunk upright.",
    "uneven sides": "Move both sides equally.",
    "hips too low": "Lift the hips into line.",
    "hips too high": "Lower the hips into line.",
    "too shallow": "Sink lower on every repetition.",
    "feet staying together": "Open the legs wider.",
    "back rounded": "Keep the back flat.",
    "head hanging": "Lift the head and look ahead.",
    "hands dropping": "Keep the hands up.",
}
MOVEMENTS: dict[str, Movement] = {}
FRONT, SIDE, ANY = (0, 45), (60, 110), (10, 70)
LOW = (0.5, 1.1)
KNEES = ("left_knee", "right_knee")


def movement(*faults: str, **view) -> Callable:
    """Add a pose function to `MOVEMENTS` under its name."""

    def enter(pose: Callable[[Take], Pose]) -> Callable[[Take], Pose]:
        MOVEMENTS[pose.__name__] = Movement(pose, faults, **view)
        return pose

    return enter


def both(**angles) -> list[Swing]:
    """Return limbs with the same angles on the left and on the right."""
    return [Swing(**angles) for _ in SIDES]


def partial(take: Take, fault: str = "partial range") -> float:
    """Draw the part of the full range of motion; less with the fault."""
    return take.range(fault, (0.28, 0.42), (0.9, 1.05))


def lean(take: Take, fault: str, degrees: float = 32) -> float:
    """Draw the degrees of a lean; about none without the fault."""
    return take.range(fault, (degrees - 5, degrees + 5), (-2, 3))


def on_one_foot(take: Take, working: Swing, standing=None, **angles) -> Pose:
    """Stand on one straight leg; the leg of the working side swings."""
    legs = take.sides(working, standing or Swing())
    name = "right" if take.side > 0 else "left"
    return Pose(legs=legs, anchor=(f"{name}_ankle",), **angles)


def in_turn(take: Take, curve=wave) -> list:
    """Return a curve for the left and one for the right; the working side is first."""
    first, second = alternate(take.phase, curve)
    return take.sides(first, second)


def stepping(take: Take, legs: list[Swing], **angles) -> Pose:
    """Swing the legs alternately; the lower foot is on the floor."""
    return Pose(legs=legs, anchor=("left_ankle", "right_ankle", "left_toe", "right_toe"), **angles)


# Standing


@movement("arms too low", "feet staying together", TOO_FAST, azimuth=FRONT, period=(1.2, 1.7))
def jumping_jacks(take):
    arms = take.range("arms too low", (65, 80), (160, 174))
    spread = take.range("feet staying together", (0.0, 0.03), (0.26, 0.36))
    p = wave(take.phase)
    hop = 0.08 * np.abs(np.sin(2 * np.pi * take.phase))
    pose = stand(take, 8, 0.08 + spread * p, up=hop, toes=25 * (hop > 0.02))
    pose.arms = both(abduct=8 + (arms - 8) * p, bend=8)
    return pose


@movement("too shallow", "tipping forward", azimuth=(35, 90))
def forward_lunges(take):
    deep = take.range("too shallow", (0.25, 0.4), (0.92, 1.0))
    tip = lean(take, "tipping forward", 38)
    down = deep * hold(take.phase)
    b = take.body
    step = b.thigh * 0.95
    front, back = ((step, take.side * b.hip, REST["ankle"]), (-step * 1.05, -take.side * b.hip, 0.08 + b.foot * 0.7))
    z = b.leg * 0.90 + 0.08 - (b.leg * 0.9 - b.thigh * 1.02) * down
    legs = take.sides(Reach(front), Reach(back, (1, 0, -0.5), (0.6, 0, -0.8)))
    return Pose(x=0, z=z, pitch=5 + tip, legs=legs, arms=on_hips(b))


@movement("too shallow", "tipping forward", azimuth=FRONT)
def side_lunges(take):
    deep = partial(take, "too shallow")
    tip = lean(take, "tipping forward", 42)
    down = deep * hold(take.phase)
    b, s = take.body, take.side
    wide = b.leg * 0.52
    legs = [Reach((0, k * wide, REST["ankle"]), (1, 0.5 * k, 0)) for k in (1, -1)]
    z = 0.08 + b.leg * 0.83 - down * b.leg * 0.34
    pitch = 18 * down + tip
    return Pose(
        x=-0.12 * down, y=s * wide * 0.62 * down, z=z, pitch=pitch, legs=legs, arms=both(flex=pitch + 75, bend=70)
    )


@movement("knees too low", "tipping backward", period=(1.3, 1.9))
def high_knees(take):
    high = take.range("knees too low", (25, 40), (88, 105))
    back = lean(take, "tipping backward", 22)
    up = in_turn(take)
    legs = [Swing(flex=high * u - back, bend=95 * u * high / 95, point=20 * u) for u in up]
    return stepping(take, legs, pitch=-back, arms=[Swing(flex=50 * u - 20, bend=85) for u in reversed(up)])


@movement("knees too low", "uneven sides", period=(1.8, 2.8))
def marching(take):
    high = take.range("knees too low", (22, 36), (70, 85))
    weak = take.range("uneven sides", (0.1, 0.25), (0.95, 1.0))
    up = in_turn(take, hold)
    part = take.sides(1, weak)
    legs = [Swing(flex=high * u * k, bend=high * u * k) for u, k in zip(up, part, strict=True)]
    return stepping(take, legs, arms=[Swing(flex=70 * u - 10, bend=25) for u in reversed(up)])


@movement("partial range", "tipping forward", azimuth=SIDE, period=(1.3, 2.0))
def butt_kicks(take):
    bend = 125 * partial(take)
    tip = lean(take, "tipping forward", 30)
    legs = [Swing(flex=tip + 2, bend=bend * u, point=30 * u) for u in in_turn(take)]
    return stepping(take, legs, pitch=tip, arms=both(flex=20, abduct=10, bend=85))


@movement("partial range", "elbows flexed", azimuth=FRONT)
def arm_circles(take):
    size = 42 * partial(take)
    bend = take.range("elbows flexed", (85, 105), (2, 10))
    angle = 2 * np.pi * take.phase * take.side
    pose = stand(take, 2, 0.12)
    pose.arms = both(flex=size * np.sin(angle), abduct=90 + size * np.cos(angle), twist=60, bend=bend)
    return pose


@movement("arms too low", "elbows flexed", "uneven sides", azimuth=FRONT)
def lateral_raises(take):
    high = take.range("arms too low", (32, 46), (86, 96))
    bend = take.range("elbows flexed", (80, 100), (5, 12))
    weak = take.range("uneven sides", (0.15, 0.3), (0.95, 1.0))
    pose = stand(take, 4, 0.12)
    pose.arms = [Swing(abduct=8 + (high - 8) * hold(take.phase) * k, bend=bend) for k in take.sides(1, weak)]
    return pose


@movement("arms too low", "tipping backward", azimuth=(35, 95))
def front_raises(take):
    high = take.range("arms too low", (32, 48), (88, 98))
    back = lean(take, "tipping backward", 20)
    pose = stand(take, 4, 0.12, spine_pitch=-back * hold(take.phase), pitch=-back * 0.4)
    pose.arms = both(flex=high * hold(take.phase), bend=5)
    return pose


@movement("partial range", "tipping backward", "uneven sides")
def overhead_press(take):
    part = partial(take)
    back = lean(take, "tipping backward", 24)
    weak = take.range("uneven sides", (0.2, 0.35), (0.95, 1.0))
    pose = stand(take, 4, 0.13, spine_pitch=-back)
    up = part * hold(take.phase)
    pose.arms = [
        Swing(flex=20 * (1 - u * k), abduct=60 + 112 * u * k, twist=88, bend=128 - 122 * u * k)
        for k in take.sides(1, weak)
        for u in [up]
    ]
    return pose


@movement("partial range", "uneven sides", TOO_FAST, azimuth=(25, 90))
def bicep_curls(take):
    part = 138 * partial(take)
    weak = take.range("uneven sides", (0.1, 0.25), (0.95, 1.0))
    pose = stand(take, 3, 0.12)
    pose.arms = [Swing(flex=4, abduct=6, bend=6 + part * hold(take.phase) * k) for k in take.sides(1, weak)]
    return pose


@movement("partial range", "back rounded", azimuth=(45, 110))
def good_mornings(take):
    part = 78 * partial(take)
    round_ = take.range("back rounded", (62, 75), (-4, 4))
    down = hold(take.phase)
    pose = stand(take, 10, 0.12, pitch=part * down, spine_pitch=round_ * down)
    pose.x = pose.x - 0.12 * down
    pose.arms = both(abduct=95, twist=88, bend=140)
    return pose


@movement("partial range", "tipping forward", azimuth=(0, 35))
def side_bends(take):
    part = 40 * partial(take)
    tip = lean(take, "tipping forward", 36)
    bend = take.side * part * np.sin(2 * np.pi * take.phase)
    pose = stand(take, 2, 0.16, spine_roll=bend, roll=bend * 0.2, pitch=tip)
    pose.arms = both(flex=165, abduct=12, bend=15) if take.rng.random() < 0.5 else on_hips(take.body)
    return pose


@movement("partial range", "arms too low", azimuth=FRONT)
def torso_twists(take):
    part = 62 * partial(take)
    high = take.range("arms too low", (15, 25), (85, 95))
    pose = stand(take, 4, 0.16, spine_yaw=part * np.sin(2 * np.pi * take.phase) * take.side)
    pose.arms = both(abduct=high, bend=8)
    return pose


@movement("partial range", "knees flexed", azimuth=(30, 100))
def calf_raises(take):
    part = 48 * partial(take)
    knee = take.range("knees flexed", (40, 52), (1, 5))
    pose = stand(take, knee, 0.1, toes=part * hold(take.phase))
    pose.arms = on_hips(take.body)
    return pose


@movement("leg too low", "tipping sideways")
def single_leg_balance(take):
    high = take.range("leg too low", (12, 25), (78, 95))
    tip = lean(take, "tipping sideways", 26)
    sway = 4 * np.sin(2 * np.pi * take.phase)
    return on_one_foot(
        take,
        Swing(flex=high + sway, bend=high * 0.95),
        Swing(abduct=-tip * 0.3),
        spine_roll=-take.side * tip,
        roll=-take.side * tip * 0.3,
        arms=both(abduct=80 + sway, bend=8),
    )


@movement("leg too low", "knees flexed", azimuth=(40, 110))
def front_kicks(take):
    high = take.range("leg too low", (22, 34), (78, 95))
    knee = take.range("knees flexed", (75, 95), (4, 12))
    up = keys(take.phase, (0, 0), (0.15, 0), (0.45, 1), (0.55, 1), (0.9, 0))
    return on_one_foot(
        take, Swing(flex=high * up, bend=knee * np.minimum(up * 1.4, 1), point=25 * up), arms=both(flex=45, bend=105)
    )


@movement("leg too low", "tipping sideways", azimuth=(0, 35))
def side_leg_raises(take):
    high = take.range("leg too low", (10, 17), (42, 54))
    tip = lean(take, "tipping sideways", 26)
    up = hold(take.phase)
    return on_one_foot(take, Swing(abduct=3 + high * up), spine_roll=take.side * tip * up, arms=on_hips(take.body))


@movement("leg too low", "tipping forward", azimuth=SIDE)
def rear_leg_raises(take):
    high = take.range("leg too low", (8, 14), (36, 46))
    tip = lean(take, "tipping forward", 45)
    up = hold(take.phase)
    return on_one_foot(
        take,
        Swing(flex=(tip + 6 - high) * up, bend=14 * up),
        Swing(flex=tip * up),
        pitch=tip * up,
        arms=both(flex=tip * up + 70, bend=80),
    )


@movement("partial range", "hands dropping", period=(1.3, 1.9))
def boxing_punches(take):
    part = partial(take)
    drop = take.range("hands dropping", (0.9, 1.0), (0, 0))
    hit = in_turn(take)
    turn = (hit[1] - hit[0]) * 22 * part
    pose = stand(take, 14, 0.16, spine_yaw=turn, pitch=6)
    rest_flex, rest_bend = 48 - 45 * drop, 132 - 105 * drop
    pose.arms = [
        Swing(flex=rest_flex + (94 - rest_flex) * u * part, bend=rest_bend + (5 - rest_bend) * u * part) for u in hit
    ]
    return pose


@movement("partial range", "knees flexed", azimuth=(45, 110))
def toe_touches(take):
    part = partial(take)
    knee = take.range("knees flexed", (60, 75), (2, 8))
    down = part * hold(take.phase)
    pose = stand(take, 2 + knee * hold(take.phase), 0.1, pitch=82 * down, spine_pitch=58 * down)
    pose.x = pose.x - 0.12 * down
    pose.arms = both(flex=165 - 90 * down, bend=5)
    return pose


@movement("arms too low", "tipping sideways", azimuth=FRONT, height=(1.0, 1.5))
def cross_body_shoulder_stretch(take):
    high = take.range("arms too low", (35, 48), (86, 96))
    tip = lean(take, "tipping sideways", 26)
    pose = stand(take, 3, 0.12, spine_roll=take.side * tip, spine_yaw=-take.side * 8 * wave(take.phase))
    name, s = SIDES[0] if take.side > 0 else SIDES[1]
    held = Swing(flex=high, abduct=-38 - 12 * wave(take.phase), bend=5)
    pose.arms = take.sides(held, Reach(f"{name}_elbow", (0.3, -s * 0.4, -1), None, (0.05, 0, -0.03)))
    return pose


@movement("partial range", "tipping sideways", azimuth=FRONT, height=(1.1, 1.6))
def neck_rolls(take):
    part = 42 * partial(take)
    tip = lean(take, "tipping sideways", 24)
    angle = 2 * np.pi * take.phase * take.side
    pose = stand(
        take, 2, 0.12, neck_pitch=part * np.cos(angle), neck_roll=part * np.sin(angle), spine_roll=take.side * tip
    )
    pose.arms = on_hips(take.body)
    return pose


@movement("partial range", "knees flexed")
def hip_circles(take):
    size = 0.16 * partial(take)
    knee = take.range("knees flexed", (48, 60), (8, 14))
    angle = 2 * np.pi * take.phase * take.side
    pose = stand(take, knee, 0.2, pitch=-70 * size * np.cos(angle), roll=60 * size * np.sin(angle))
    pose.x, pose.y, pose.z = pose.x + size * np.cos(angle), size * np.sin(angle), pose.z - 0.03
    pose.arms = on_hips(take.body)
    return pose


@movement("too shallow", "tipping forward", azimuth=(40, 100), period=(2.2, 3.0))
def wall_sit_hold(take):
    deep = take.range("too shallow", (32, 42), (84, 94))
    tip = lean(take, "tipping forward", 42)
    pose = stand(take, deep + 2 * wave(take.phase), 0.13, shin=0.06, pitch=tip)
    pose.arms = both(flex=tip + 4 * wave(take.phase), abduct=6)
    return pose


@movement("knees too low", "tipping backward", period=(1.7, 2.4), azimuth=FRONT)
def standing_knee_to_elbow(take):
    high = take.range("knees too low", (30, 42), (95, 112))
    back = lean(take, "tipping backward", 20)
    up = in_turn(take, hold)
    legs = [Swing(flex=high * u - back, abduct=-8 * u, bend=high * u) for u in up]
    twist = 38 * (up[1] - up[0]) * high / 100
    arms = both(flex=30, abduct=75, twist=85, bend=138)
    return stepping(take, legs, pitch=-back, spine_yaw=-twist, spine_pitch=30 * (up[0] + up[1]) * high / 100, arms=arms)


@movement("partial range", "elbows flexed", azimuth=FRONT)
def standing_snow_angels(take):
    part = partial(take)
    bend = take.range("elbows flexed", (85, 100), (3, 10))
    pose = stand(take, 3, 0.12)
    pose.arms = both(abduct=15 + 155 * part * wave(take.phase), twist=60, bend=bend)
    return pose


# Planks, hands and knees


def plank(take: Take, hips: Curve = 0.0, arms=None, legs=None, **angles) -> Pose:
    """Rest on straight arms and toes; ``hips`` is the height of the hips above the straight line in metres."""
    b = take.body
    ankle = b.foot * 0.97 + REST["toe"]
    shoulder, upper = b.arm * 0.985 + REST["wrist"], b.trunk - 0.03
    straight = (shoulder - ankle) / (b.leg + upper)
    z = ankle + b.leg * straight + hips
    x = np.sqrt(np.maximum((b.leg * 0.998) ** 2 - (z - ankle) ** 2, 0.01))
    rise = np.arcsin(np.clip((shoulder - z) / upper, -1, 1))
    hand = (x + upper * np.cos(rise)).mean() if np.ndim(x) else x + upper * np.cos(rise)
    planted = [Reach((hand, s * b.shoulder, REST["wrist"]), (-0.5, s, 0), (1, 0, -0.1)) for s in (1, -1)]
    feet = [Reach((0, s * b.hip, ankle), (0, 0, -1), (0.25, 0, -0.97)) for s in (1, -1)]
    return Pose(
        posture="plank",
        x=x,
        z=z,
        pitch=90 - np.degrees(rise),
        neck_pitch=-15,
        arms=arms or planted,
        legs=legs or feet,
        **angles,
    )


def hip_fault(take: Take) -> float:
    """Draw the height of the hips above the straight line in metres."""
    low = take.range("hips too low", (0.16, 0.20), (0, 0))
    return take.range("hips too high", (0.24, 0.32), (0, 0.01)) - low


@movement("hips too low", "hips too high", azimuth=SIDE, height=LOW)
def full_plank_hold(take):
    return plank(take, hip_fault(take) + 0.012 * np.sin(2 * np.pi * take.phase))


@movement("hips too low", "hips too high", azimuth=SIDE, height=LOW)
def plank_shoulder_taps(take):
    pose = plank(take, hip_fault(take))
    for i, up in enumerate(in_turn(take)):
        x, y, z = pose.arms[i].target
        s = 1 - 2 * i
        pose.arms[i] = Reach(
            (x + 0.03 * up, y * (1 - 1.8 * up), z + (take.body.arm * 0.85) * up), (-0.3, s, -0.5), (1, 0, -0.1)
        )
    return pose


@movement("hips too high", "partial range", azimuth=SIDE, height=LOW, period=(1.2, 1.8))
def mountain_climbers(take):
    high = take.range("hips too high", (0.26, 0.34), (0.02, 0.05))
    part = partial(take)
    pose = plank(take, high)
    for i, up in enumerate(in_turn(take)):
        x, y, z = pose.legs[i].target
        pose.legs[i] = Reach((x + up * part * take.body.leg * 0.66, y, z + 0.06 * up), (0.5, 0, -1), (0.25, 0, -0.97))
    return pose


def kneel_on_hands(take: Take, **fields) -> Pose:
    """Rest on hands and knees."""
    ground = all_fours(take.body)
    flex = ground["pitch"]
    fields = {
        "arms": both(flex=flex, point=80),
        "legs": both(flex=flex, bend=90, point=70),
        "neck_pitch": -25,
        **fields,
    }
    return Pose(**ground, **fields)


@movement("partial range", "head hanging", azimuth=SIDE, height=LOW)
def cat_cow(take):
    part = partial(take)
    head = take.range("head hanging", (50, 60), (0, 0))
    curve = part * np.sin(2 * np.pi * take.phase)
    pose = kneel_on_hands(take)
    b, flex = take.body, pose.pitch
    hand = (b.trunk - 0.03) * np.sin(np.radians(flex))
    pose.legs = both(flex=flex - 26 * curve, bend=90, point=70)
    pose.pitch = flex - 26 * curve
    pose.spine_pitch = 55 * curve
    pose.neck_pitch = -10 + 35 * curve + head
    pose.arms = [Reach((hand * 0.94, s * b.shoulder, REST["wrist"]), (-1, 0, 0), (1, 0, -0.1)) for s in (1, -1)]
    return pose


@movement("leg too low", "head hanging", azimuth=SIDE, height=LOW)
def donkey_kicks(take):
    high = take.range("leg too low", (0.25, 0.35), (0.95, 1.05))
    head = take.range("head hanging", (50, 62), (-25, -25))
    pose = kneel_on_hands(take, neck_pitch=head)
    flex, up = pose.pitch, high * hold(take.phase)
    pose.legs = take.sides(Swing(flex=flex - (flex + 12) * up, bend=90, point=70 - 60 * up), pose.legs[0])
    return pose


@movement("leg too low", "elbows flexed", azimuth=(130, 165), height=LOW)
def fire_hydrants(take):
    high = take.range("leg too low", (14, 22), (62, 75))
    pose = kneel_on_hands(take)
    low = take.range("elbows flexed", (0.6, 0.7), (1, 1))
    b = take.body
    if low < 1:
        pose.pitch = 100
        pose.arms = [Reach((b.trunk * 0.95, s * b.shoulder, REST["wrist"]), (-1, s, 0), (1, 0, -0.1)) for s in (1, -1)]
    still = Swing(flex=pose.pitch, bend=90, point=70)
    pose.legs = take.sides(Swing(flex=pose.pitch, abduct=high * hold(take.phase), bend=90, point=70), still)
    return pose


@movement("partial range", "head hanging", azimuth=SIDE, height=LOW)
def childs_pose_rocking(take):
    part = partial(take)
    head = take.range("head hanging", (45, 55), (-20, -10))
    b, back = take.body, part * wave(take.phase)
    thigh = 4 - 62 * back
    tip = np.radians(-thigh)
    z = REST["knee"] + b.thigh * np.cos(tip)
    shoulder = b.arm * (0.96 - 0.62 * back) + REST["wrist"]
    rise = np.degrees(np.arcsin(np.clip((shoulder - z) / (b.trunk - 0.03), -0.9, 0.9)))
    hand = (b.trunk - 0.03) * 0.98 + 0.04
    legs = [Swing(flex=90 - rise - thigh, bend=90 - thigh, point=60) for _ in SIDES]
    arms = [Reach((hand, s * b.shoulder, REST["wrist"]), (-0.3, s, -0.3), (1, 0, -0.1)) for s in (1, -1)]
    return Pose(pitch=90 - rise, neck_pitch=head, legs=legs, arms=arms, anchor=KNEES, posture="all fours")


@movement("partial range", "hips too low", azimuth=SIDE, height=LOW)
def downward_dog_waves(take):
    part = partial(take)
    low = take.range("hips too low", (0.5, 0.6), (0.9, 1.0))
    return plank(take, 0.06 + 0.46 * low * part * hold(take.phase))


# Kneeling


def kneel(take: Take, pitch: Curve = 0.0, thigh: Curve = 0.0, **fields) -> Pose:
    """Kneel on both knees, thighs tipped forward by ``thigh`` degrees (negative: sitting back)."""
    thigh = np.asarray(thigh)
    legs = [Swing(flex=np.asarray(pitch) - thigh, abduct=6, bend=90 - thigh, point=70) for _ in SIDES]
    return Pose(pitch=pitch, legs=legs, anchor=KNEES, posture="kneeling", **fields)


@movement("arms too low", "tipping backward", height=(0.7, 1.3))
def tall_kneeling_arm_raises(take):
    high = take.range("arms too low", (70, 85), (162, 176))
    back = lean(take, "tipping backward", 24)
    return kneel(
        take, arms=both(flex=4 + (high - 4) * hold(take.phase), abduct=8, bend=6), spine_pitch=-back, pitch=-back * 0.3
    )


@movement("partial range", "tipping forward", azimuth=(40, 110), height=(0.7, 1.3))
def kneeling_sit_backs(take):
    part = partial(take)
    tip = lean(take, "tipping forward", 44)
    back = part * hold(take.phase)
    pitch = 8 * back + tip
    return kneel(take, pitch, thigh=-58 * back, arms=both(flex=pitch + 82, bend=6))


@movement("too shallow", "tipping forward", azimuth=(50, 110), height=(0.7, 1.3))
def half_kneeling_hip_stretch(take):
    part = partial(take, "too shallow")
    tip = lean(take, "tipping forward", 38)
    b, s = take.body, take.side
    forth = part * hold(take.phase)
    thigh = np.radians(4 + 34 * forth)
    x, z = b.thigh * np.sin(thigh), REST["knee"] + b.thigh * np.cos(thigh)
    down = Swing(flex=tip - np.degrees(thigh), bend=90 - np.degrees(thigh), point=70)
    front = Reach((b.thigh * 1.12, s * b.hip, REST["ankle"]), (1, 0, 1))
    return Pose(posture="half kneeling", x=x, z=z, pitch=tip, legs=take.sides(front, down), arms=on_hips(b))


# On the floor


def supine(**fields) -> Pose:
    """Lie on the back."""
    return Pose(
        **{"posture": "supine", "pitch": -90, "z": REST["pelvis"], "arms": both(abduct=18), "neck_pitch": 8, **fields}
    )


def prone(**fields) -> Pose:
    """Lie on the belly."""
    return Pose(
        **{
            "posture": "prone",
            "pitch": 90,
            "z": REST["pelvis"],
            "legs": both(abduct=5, point=65),
            "neck_pitch": -12,
            **fields,
        }
    )


@movement("hips too low", TOO_FAST, azimuth=SIDE, height=LOW)
def glute_bridges(take):
    part = take.range("hips too low", (0.25, 0.38), (0.94, 1.04))
    b = take.body
    shoulder = b.trunk - 0.03
    rise = np.radians(34) * part * hold(take.phase)
    z = 0.1 + shoulder * np.sin(rise)
    x = shoulder * np.cos(rise)
    legs = [Reach((shoulder + 0.34, s * 0.12, REST["ankle"]), (0.3, 0.1 * s, 1)) for s in (1, -1)]
    return Pose(
        posture="supine",
        x=x,
        z=z,
        pitch=-90 - np.degrees(rise),
        legs=legs,
        arms=both(abduct=12, flex=-np.degrees(rise)),
        neck_pitch=np.degrees(rise),
    )


@movement("partial range", TOO_FAST, azimuth=SIDE, height=LOW)
def sit_ups(take):
    part = partial(take)
    up = part * hold(take.phase)
    legs = [Reach((0.52, s * 0.12, REST["ankle"]), (0.3, 0.1 * s, 1)) for s in (1, -1)]
    return supine(
        pitch=-88 + 62 * up,
        spine_pitch=10 + 35 * up,
        legs=legs,
        arms=both(flex=35, abduct=-18, bend=125),
        neck_pitch=12,
    )


@movement("partial range", "knees flexed", azimuth=SIDE, height=LOW)
def supine_leg_raises(take):
    high = 82 * partial(take)
    knee = take.range("knees flexed", (80, 95), (3, 10))
    up = 6 + high * hold(take.phase)
    return supine(legs=both(flex=up + knee * 0.55, bend=knee, point=30))


@movement("partial range", "hips too high", azimuth=SIDE, height=LOW, period=(1.5, 2.2))
def bicycle_crunches(take):
    part = partial(take)
    up = in_turn(take)
    legs = [Swing(flex=22 + 78 * u * part, bend=10 + 95 * u * part, point=25) for u in up]
    lift = take.range("hips too high", (0.16, 0.22), (0, 0))
    arms = both(flex=25, abduct=70, twist=85, bend=140)
    twist = 30 * (up[1] - up[0]) * part
    return supine(
        pitch=-84 - lift * 60,
        z=REST["pelvis"] + lift,
        spine_pitch=34 + lift * 160,
        spine_yaw=-twist,
        legs=legs,
        arms=arms,
        neck_pitch=15,
    )


@movement("partial range", "uneven sides", azimuth=SIDE, height=LOW)
def supermans(take):
    part = partial(take)
    weak = take.range("uneven sides", (0.0, 0.1), (0.95, 1.0))
    up = part * hold(take.phase)
    sides = take.sides(1, weak)
    legs = [Swing(flex=-24 * up * k, abduct=6, point=65) for k in sides]
    arms = [Swing(flex=172 + 14 * up * k, abduct=8) for k in sides]
    return prone(spine_pitch=-34 * up, legs=legs, arms=arms, pitch=91)


@movement("partial range", "head hanging", azimuth=SIDE, height=LOW)
def cobra_press(take):
    part = partial(take)
    head = take.range("head hanging", (48, 58), (-22, -12))
    up = part * hold(take.phase)
    b = take.body
    arms = [
        Reach((b.trunk * 0.84, s * (b.shoulder + 0.05), REST["wrist"]), (-1, s * 0.5, 0.4), (1, 0, -0.1))
        for s in (1, -1)
    ]
    return prone(
        pitch=90 - 14 * up,
        spine_pitch=-66 * up,
        neck_pitch=-18 + (head + 18) * up,
        arms=arms,
        legs=both(flex=-14 * up, abduct=5, point=65),
    )


@movement("leg too low", "knees flexed", azimuth=(0, 40), height=LOW)
def side_lying_leg_raises(take):
    high = take.range("leg too low", (8, 14), (42, 54))
    knee = take.range("knees flexed", (75, 90), (2, 6))
    s, up = take.side, hold(take.phase)
    under = Swing(flex=168, bend=4)
    arms = take.sides(Swing(flex=40, bend=75), under)
    legs = take.sides(Swing(abduct=high * up, bend=knee, point=20), Swing(flex=8, bend=10, point=25))
    return Pose(posture="side", z=take.body.hip + 0.1, roll=s * 90, legs=legs, arms=arms, neck_roll=-s * 8)


@movement("partial range", "back rounded", azimuth=FRONT, height=LOW)
def seated_twists(take):
    part = 58 * partial(take)
    round_ = take.range("back rounded", (52, 64), (0, 6))
    twist = part * np.sin(2 * np.pi * take.phase) * take.side
    legs = [Reach((0.56, s * 0.12, REST["ankle"]), (0.2, 0.1 * s, 1)) for s in (1, -1)]
    return Pose(
        posture="seated",
        z=REST["pelvis"],
        pitch=-18,
        spine_pitch=round_,
        spine_yaw=twist,
        legs=legs,
        arms=both(flex=48, abduct=-14, bend=70),
    )


@movement("partial range", "knees flexed", azimuth=SIDE, height=LOW)
def seated_forward_folds(take):
    part = partial(take)
    knee = take.range("knees flexed", (70, 85), (2, 6))
    fold = part * hold(take.phase)
    pitch = -6 + 38 * fold
    legs = both(flex=90 + pitch + knee * 0.5, bend=knee, abduct=6)
    return Pose(
        posture="seated",
        z=REST["pelvis"],
        pitch=pitch,
        spine_pitch=50 * fold,
        legs=legs,
        arms=both(flex=pitch + 75 + 30 * fold, bend=6),
    )


@movement("partial range", "tipping backward", azimuth=(20, 70), height=LOW)
def seated_overhead_reaches(take):
    high = 160 * partial(take)
    back = lean(take, "tipping backward", 30)
    legs = both(flex=90 - back, abduct=22, bend=4)
    return Pose(
        posture="seated",
        z=REST["pelvis"],
        pitch=-back,
        legs=legs,
        arms=both(flex=10 + high * hold(take.phase), abduct=8, bend=5),
    )


# Random movements


def _path(rng: np.random.Generator, take: Take, low: float, high: float, moves: bool) -> np.ndarray:
    """Draw a periodic curve between two values of a range, or one constant value."""
    a, b = rng.uniform(low, high, 2)
    lag, kind = rng.choice([0.0, 0.25, 0.5, 0.75]), rng.integers(3)
    curve = (wave, hold, lambda p: wave(p / 2))[kind](take.phase + lag)
    return a + (b - a) * (curve if moves else 0 * curve)


def random_movement(take: Take) -> Pose:
    """Draw a random posture with random moving limbs."""
    rng, b = take.rng, take.body
    together = rng.choice(["together", "in turn", "one"])
    arms_move, legs_move, trunk_moves = rng.random(3) < (0.65, 0.6, 0.35)

    def pair(**ranges) -> list[Swing]:
        """Draw swings of both sides: mirrored, half a repetition apart, or one side still."""
        moves = arms_move if "arm" in ranges else legs_move
        ranges.pop("arm", None)
        state = rng.bit_generator.state
        limbs = []
        for i in range(2):
            if together != "one":
                rng.bit_generator.state = state
            shifted = Take(b, take.seconds, rng, "", take.period, take.start + 0.5 * i * (together == "in turn"))
            moving = moves and (together != "one" or i == (take.side < 0))
            limbs.append(Swing(**{k: _path(rng, shifted, low, high, moving) for k, (low, high) in ranges.items()}))
        return limbs

    def free_arms() -> list:
        kind = rng.integers(6)
        if kind == 0:
            return pair(arm=1, flex=(0, 180), abduct=(0, 15), bend=(0, 30))
        if kind == 1:
            return pair(arm=1, abduct=(5, 175), twist=(0, 90), bend=(0, 40))
        if kind == 2:
            return pair(arm=1, flex=(110, 185), abduct=(-8, 25), bend=(60, 145))
        if kind == 3:
            return pair(arm=1, flex=(20, 100), abduct=(-20, 40), bend=(20, 140))
        if kind == 4:
            angle, size = 2 * np.pi * take.phase, rng.uniform(10, 40)
            middle = rng.uniform(60, 120)
            return [Swing(flex=size * np.sin(angle), abduct=middle + size * np.cos(angle), bend=10) for _ in SIDES]
        return on_hips(b)

    trunk = {
        "spine_pitch": _path(rng, take, -20, 40, trunk_moves),
        "spine_roll": _path(rng, take, -30, 30, trunk_moves) * (rng.random() < 0.4),
        "spine_yaw": _path(rng, take, -45, 45, trunk_moves) * (rng.random() < 0.3),
        "neck_pitch": rng.uniform(-15, 25),
    }
    posture = rng.choice(
        ["stand", "step", "kneel", "half kneel", "all fours", "knee plank", "plank", "prone", "supine", "side", "sit"],
        p=[0.28, 0.10, 0.06, 0.05, 0.12, 0.12, 0.06, 0.05, 0.07, 0.03, 0.06],
    )
    if posture == "stand":
        knee = np.maximum(_path(rng, take, 0, rng.choice([25, 60, 120]), legs_move), 2)
        jump = (rng.random() < 0.3) * rng.uniform(0.04, 0.36)
        air = (take.phase % 1 - 0.55) / 0.3
        up = jump * np.maximum(1 - (2 * air - 1) ** 2, 0) * ((air > 0) & (air < 1))
        if jump:
            low = rng.uniform(15, 60)
            knee = keys(take.phase, (0, 25), (0.36, low), (0.42, low), (0.56, 4), (0.84, 8), (0.93, 28))
        circle, angle = (rng.random() < 0.2) * rng.uniform(0.05, 0.16), 2 * np.pi * take.phase * take.side
        outward = rng.choice([-0.6, -0.4, 0, 0.2, 0.6]) * knee / (knee.max() + 1)
        pitch = knee * rng.uniform(0.2, 0.5) + (rng.random() < 0.25) * rng.uniform(0, 50)
        pose = stand(
            take, knee, rng.uniform(0.06, 0.28), rng.uniform(0.2, 0.5), outward, up, 40 * (up > 0), pitch=pitch, **trunk
        )
        pose.x, pose.y = pose.x + circle * np.cos(angle), circle * np.sin(angle)
        if knee.max() > 55:  # one foot ahead of the other, unlike a squat or knee circles
            step = rng.uniform(0.15, 0.3) * take.side
            for leg, s in zip(pose.legs, (1, -1), strict=True):
                leg.target = (leg.target[0] + s * step, *leg.target[1:])
            pose.z = pose.z - 0.05
        pose.arms = free_arms()
        return pose
    if posture == "step":
        legs = pair(flex=(-25, 100), abduct=(0, 25), bend=(0, 110))
        if rng.random() < 0.5:
            legs = take.sides(legs[0], Swing(bend=4))
        return stepping(take, legs, arms=free_arms(), **trunk)
    if posture == "kneel":
        return kneel(
            take,
            _path(rng, take, -10, 35, trunk_moves),
            _path(rng, take, -60, 10, legs_move),
            arms=free_arms(),
            **trunk,
        )
    if posture == "half kneel":
        pose = half_kneeling_hip_stretch(take)
        pose.arms, pose.spine_roll, pose.spine_yaw = free_arms(), trunk["spine_roll"], trunk["spine_yaw"]
        return pose
    if posture == "all fours":
        pose = kneel_on_hands(take)
        flex, up = pose.pitch, in_turn(take, hold)
        arm_lift, leg_lift = rng.uniform(0, 1.1, 2) * (rng.random(2) < 0.7)
        knee, out = rng.uniform(0, 100), (rng.random() < 0.3) * rng.uniform(20, 70)
        if together == "one":  # limbs of one side, because opposite arm and leg are one of the six exercises
            up = [up[0], 0 * up[0]]
        back = leg_lift * (out == 0)
        pose.arms = [
            Swing(flex=flex + (180 - flex) * arm_lift * u, bend=2, point=80 * (1 - np.minimum(arm_lift * u, 1)))
            for u in up
        ]
        pose.legs = [
            Swing(flex=flex * (1 - back * u), abduct=out * u, bend=90 + (knee - 90) * back * u, point=78) for u in up
        ]
        pose.neck_pitch = rng.uniform(-30, 40)
        return pose
    if posture == "knee plank":
        low = rng.uniform(0, 0.9) * (rng.random() < 0.6)  # constant, because lowering it is one of the six exercises
        shoulder = b.arm * 0.97 + REST["wrist"] - low * (b.arm - 0.22)
        tilt = np.radians(_path(rng, take, 8, 50 - 25 * low, True))
        line = b.trunk - 0.03
        z = REST["knee"] + b.thigh * np.sin(tilt)
        rise = np.arcsin(np.clip((shoulder - z) / line, -0.9, 0.95))
        hand = (b.thigh * np.cos(tilt) + line * np.cos(rise)).min() + rng.uniform(0, 0.1)
        arms = [Reach((hand, s * b.shoulder * 1.2, REST["wrist"]), (-0.7, s * 0.8, 0.3), (1, 0, -0.1)) for s in (1, -1)]
        degrees, rise = np.degrees(tilt), np.degrees(rise)
        legs = [Swing(flex=degrees - rise, bend=degrees + rng.uniform(0, 60), point=60)] * 2
        return Pose(pitch=90 - rise, neck_pitch=-20, arms=arms, legs=legs, anchor=KNEES, posture="kneeling plank")
    if posture == "plank":
        hips = _path(rng, take, -0.18, 0.4, trunk_moves)
        pose = plank(take, hips)
        lift = rng.uniform(0, 0.35) * (together != "together")
        for i, up in enumerate(in_turn(take)):
            x, y, z = pose.legs[i].target
            pose.legs[i] = Reach((x, y, z + lift * up), (0, 0, -1), (0.25, 0, -0.97))
        return pose
    if posture == "prone":
        up = rng.uniform(0, 1, 3) * hold(take.phase)[:, None]
        sides = [1, 1] if together == "together" else take.sides(1, 0)
        legs = [
            Swing(flex=-28 * up[:, 0] * k, abduct=6, bend=90 * (rng.random() < 0.3) * up[:, 1] * k, point=65)
            for k in sides
        ]
        return prone(
            pitch=91,
            spine_pitch=-40 * up[:, 2],
            legs=legs,
            arms=both(flex=rng.choice([0, 175]), abduct=rng.uniform(5, 60)),
        )
    if posture == "supine":
        curl = rng.uniform(0, 1) * (rng.random() < 0.5) * hold(take.phase)
        legs = pair(flex=(5, 100), abduct=(0, 20), bend=(0, 95))
        for leg in legs:  # the feet stay above the floor
            leg.bend = np.minimum(leg.bend, 1.7 * leg.flex)
            leg.flex = leg.flex + 50 * curl
        arms = pair(arm=1, flex=(0, 175), abduct=(5, 60))
        return supine(pitch=-88 + 50 * curl, spine_pitch=45 * curl, legs=legs, arms=arms)
    if posture == "side":
        legs = take.sides(pair(abduct=(0, 60), flex=(-10, 50), bend=(0, 80))[0], Swing(flex=8, bend=10))
        arms = take.sides(pair(arm=1, flex=(0, 150), bend=(0, 90))[0], Swing(flex=168))
        return Pose(posture="side", z=b.hip + 0.1, roll=take.side * 90, legs=legs, arms=arms)
    pitch = _path(rng, take, -35, 10, trunk_moves)
    legs = [Swing(flex=90 + pitch + 1, abduct=a.abduct, bend=0) for a in pair(abduct=(0, 45))]
    if rng.random() < 0.6:
        legs = [Reach((rng.uniform(0.4, 0.6), s * 0.12, REST["ankle"]), (0.2, 0.1 * s, 1)) for s in (1, -1)]
    return Pose(posture="seated", z=REST["pelvis"], pitch=pitch, legs=legs, arms=free_arms(), **trunk)


RANDOM = Movement(random_movement, (), azimuth=(0, 115), period=(1.4, 3.0), height=(0.6, 1.5))
