"""The six exercises of the sample, each performed well or with one of its visible faults."""

import numpy as np

from mobilevideogpt.sample.figure import REST, SIDES, Pose, Reach, Swing
from mobilevideogpt.sample.motion import Movement, Take, all_fours, alternate, keys, on_hips, stand, wave

ADVICE = {
    "standing too upright": "Place both hands on the knees.",
    "circles too small": "Draw larger circles.",
    "not lifting high enough": "Lift arm and leg to back height.",
    "lifted leg bent": "Straighten the lifted leg.",
    "hips sagging": "Tighten the belly, the hips sag.",
    "not going low enough": "Lower the chest further.",
    "not going deep enough": "Go deeper.",
    "not jumping high enough": "Jump higher.",
    "arms not swinging": "Swing both arms overhead.",
    "knees falling in": "Push the knees outward.",
    "leaning to the side": "Stand straight, do not lean.",
    "elbow too low": "Raise the elbow overhead.",
}


def knee_circles(take: Take) -> Pose:
    """Feet together, hands on the bent knees, and the knees draw circles."""
    radius = take.range("circles too small", (0.1, 0.2), (0.85, 1.1))
    deep = take.rng.uniform(44, 54)
    upright = take.fault == "standing too upright"
    trunk = take.range("standing too upright", (0, 8), (56, 64))
    angle = 2 * np.pi * take.phase * take.side
    pose = stand(take, knee=deep + 30 * radius * np.cos(angle), stance=0.07, shin=0.48, pitch=trunk * 0.75)
    pose.spine_pitch = trunk * 0.5
    pose.neck_pitch = -trunk * 0.35
    sway = radius * np.sin(angle)
    pose.y = -0.05 * sway
    for leg in pose.legs:
        leg.pole = (1, 0.95 * sway, 0)
    pose.arms = (
        on_hips(take.body)
        if upright
        else [Reach(f"{side}_knee", (-0.3, s, 0.2), (0.2, 0, -1), (0.05, s * 0.03, 0.08)) for side, s in SIDES]
    )
    return pose


def opposite_arm_and_leg_lifts_on_knees(take: Take) -> Pose:
    """On hands and knees, one arm and the opposite leg are lifted until level, sides alternate."""
    reach = take.range("not lifting high enough", (0.3, 0.4), (0.95, 1.06))
    knee = take.range("lifted leg bent", (88, 105), (0, 8))
    ground = all_fours(take.body)
    upright = ground["pitch"]
    first, second = (reach * lift for lift in alternate(take.phase))
    lifts = (first, second) if take.side > 0 else (second, first)
    arms = [
        Swing(flex=upright + (182 - upright) * lift, abduct=4 * lift, bend=2, point=80 - 80 * lift) for lift in lifts
    ]
    legs = [
        Swing(flex=upright - (upright - 3) * lift, bend=90 + (knee - 90) * lift, point=78 - 30 * lift**2)
        for lift in reversed(lifts)
    ]
    return Pose(**ground, neck_pitch=-25, arms=arms, legs=legs)


def pushups_on_knees(take: Take) -> Pose:
    """Hands and knees on the floor, trunk in line with the thighs; the chest is lowered and pressed up."""
    body = take.body
    sag = take.range("hips sagging", (0.92, 1.0), (0, 0))
    low = take.range("not going low enough", (0.22, 0.32), (0.9, 1.0))
    shins = take.rng.uniform(0, 65)
    line = body.thigh + body.trunk - 0.03
    top = body.arm * 0.97 + REST["wrist"]
    bottom = 0.19
    shoulder = top - (top - bottom) * low * wave(take.phase)

    def trunk(height):
        straight = np.arcsin((height - REST["knee"]) / line)
        thigh = straight + (np.radians(9) - straight) * sag
        rise = (height - REST["knee"] - body.thigh * np.sin(thigh)) / (body.trunk - 0.03)
        return thigh, np.arcsin(np.clip(rise, -1, 1))

    def reach_x(height):
        thigh, rise = trunk(height)
        return body.thigh * np.cos(thigh) + (body.trunk - 0.03) * np.cos(rise)

    thigh, rise = np.degrees(trunk(shoulder))
    hand = reach_x(top) + 0.05
    wide = body.shoulder + 0.06
    legs = [Swing(flex=thigh - rise, bend=thigh + shins, point=60)] * 2
    arms = [Reach((hand, s * wide, REST["wrist"]), (-0.7, s * 0.8, 0.3), (1, 0, -0.1)) for s in (1, -1)]
    planted = {"anchor": ("left_knee", "right_knee"), "posture": "kneeling plank"}
    return Pose(pitch=90 - rise, neck_pitch=-20, arms=arms, legs=legs, **planted)


def squat_jump(take: Take) -> Pose:
    """A squat, then a jump straight up with the arms overhead; without a swing, the hands stay on the hips."""
    deep = take.range("not going deep enough", (30, 42), (95, 112))
    high = take.range("not jumping high enough", (0.025, 0.045), (0.24, 0.34))
    p = take.phase
    knee = keys(p, (0, 28), (0.34, deep), (0.42, deep), (0.56, 4), (0.72, 12), (0.86, 6), (0.93, 30))
    air = (p % 1 - 0.56) / 0.30
    up = high * np.maximum(1 - (2 * air - 1) ** 2, 0) * ((air > 0) & (air < 1))
    toes = keys(p, (0.46, 0), (0.57, 42), (0.84, 42), (0.92, 0))
    arm = keys(p, (0, 20), (0.36, -45), (0.44, -45), (0.64, 165), (0.78, 165))
    pose = stand(take, knee, stance=0.14, pole=0.25, up=up, toes=toes, pitch=knee * 0.42)
    pose.neck_pitch = -pose.pitch * 0.4
    swinging = [Swing(flex=arm + pose.pitch * 0.4, abduct=10, bend=15) for _ in SIDES]
    pose.arms = on_hips(take.body) if take.fault == "arms not swinging" else swinging
    return pose


def squats(take: Take) -> Pose:
    """Feet apart, hips lowered behind the feet until the thighs are level, then raised."""
    deep = take.range("not going deep enough", (30, 44), (98, 116))
    inward = take.range("knees falling in", (0.82, 0.95), (-0.6, -0.4))  # 1: the knees meet
    stance = take.rng.uniform(0.17, 0.21)
    meet = (stance + take.body.hip) / (take.body.leg * np.sin(np.radians(deep / 2)))
    pole = -inward * np.tan(np.arcsin(min(meet, 0.6)))
    folded = take.rng.random() < 0.4
    down = keys(take.phase, (0, 0), (0.08, 0), (0.46, 1), (0.56, 1), (0.95, 0))
    knee = 4 + (deep - 4) * down
    pose = stand(take, knee, stance, pole=pole * down, pitch=knee * 0.4)
    pose.neck_pitch = -pose.pitch * 0.4
    if folded:
        pose.arms = [Swing(flex=48, abduct=2, twist=-28, bend=128) for _ in SIDES]
    else:
        pose.arms = [Swing(flex=pose.pitch + 20 + 65 * down, abduct=2, bend=8) for _ in SIDES]
    return pose


def tricep_stretch(take: Take) -> Pose:
    """One elbow overhead with the hand behind the neck; the other hand pulls the elbow."""
    raised = take.range("elbow too low", (88, 102), (182, 192))
    lean = take.range("leaning to the side", (26, 34), (0, 3))
    pull = wave(take.phase)
    low = take.fault == "elbow too low"
    pose = stand(take, knee=3, stance=take.rng.uniform(0.08, 0.16))
    pose.spine_roll = take.side * (lean + 3 * pull)
    pose.roll = take.side * lean * 0.25
    pose.neck_pitch = 6
    name, s = SIDES[0] if take.side > 0 else SIDES[1]
    stretched = Swing(flex=raised + (0 if low else 5 * pull), abduct=4 - 12 * pull, twist=-8, bend=138)
    helper = Reach(f"{name}_elbow", (-0.3, -s, 0.6), (0, s, 0.2), (0, -s * 0.05, -0.02))
    pose.arms = take.sides(stretched, helper)
    return pose


EXERCISES = {
    "knee_circles": Movement(knee_circles, ("standing too upright", "circles too small"), (15, 70), (1.7, 2.6)),
    "opposite_arm_and_leg_lifts_on_knees": Movement(
        opposite_arm_and_leg_lifts_on_knees,
        ("not lifting high enough", "lifted leg bent"),
        (62, 112),
        (2.0, 2.8),
        (0.5, 1.1),
    ),
    "pushups_on_knees": Movement(
        pushups_on_knees, ("hips sagging", "not going low enough"), (60, 112), (1.7, 2.6), (0.45, 1.0)
    ),
    "squat_jump": Movement(
        squat_jump, ("arms not swinging", "not going deep enough", "not jumping high enough"), (15, 65), (1.7, 2.3)
    ),
    "squats": Movement(squats, ("not going deep enough", "knees falling in"), (12, 50), (1.8, 2.8)),
    "tricep_stretch": Movement(
        tricep_stretch, ("leaning to the side", "elbow too low"), (0, 45), (2.0, 3.0), (1.0, 1.5)
    ),
}
