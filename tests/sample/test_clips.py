"""The rendered clips: what they show is what their labels say."""

import functools
import json
import subprocess
import sys

import av
import numpy as np
import pytest

from mobilevideogpt.sample import names, render
from mobilevideogpt.sample.attributes import hip_deviation, knee_flexion
from mobilevideogpt.sample.exercises import EXERCISES
from mobilevideogpt.sample.figure import JOINTS, J
from mobilevideogpt.sample.movements import MOVEMENTS
from mobilevideogpt.sample.names import NO_ISSUE
from mobilevideogpt.sample.render import ClipSpec, describe, frames, joints, sample_specs, write_clip, write_sample

SEEDS = range(20)


def measure_all(exercise, variation, measure) -> np.ndarray:
    return np.array([measure(joints(ClipSpec(exercise, variation, (seed, 77)))[0]) for seed in SEEDS])


def heights(j, part) -> np.ndarray:
    return j[:, [J[f"left_{part}"], J[f"right_{part}"]], 2]


def width(j, part) -> np.ndarray:
    return np.abs(j[:, J[f"left_{part}"], 1] - j[:, J[f"right_{part}"], 1])


def deepest_knees(j) -> float:
    return knee_flexion(j).min(axis=1).max()


def trunk_lean(j, axis) -> float:
    up = j[:, J["neck"]] - j[:, J["pelvis"]]
    return np.degrees(np.arctan2(np.abs(up[:, axis]), up[:, 2])).mean()


def highest_elbow(j) -> float:
    return (heights(j, "elbow") - heights(j, "shoulder")).max()


def jump(j) -> float:
    return j[..., 2].min(axis=1).max()


def lifted_leg_bend(j) -> float:
    foot = heights(j, "hip").max() - heights(j, "knee")  # the knee of the lifted leg is near hip height
    frame, side = np.unravel_index(foot.argmin(), foot.shape)
    return knee_flexion(j)[frame, side]


@pytest.mark.parametrize(
    ("exercise", "fault", "measure"),
    [
        ("knee_circles", "standing too upright", lambda j: trunk_lean(j, 0)),
        ("knee_circles", "circles too small", lambda j: np.ptp(j[:, J["left_knee"]], axis=0).max()),
        (
            "opposite_arm_and_leg_lifts_on_knees",
            "not lifting high enough",
            lambda j: min(heights(j, "wrist").max(), heights(j, "ankle").max()),
        ),
        ("opposite_arm_and_leg_lifts_on_knees", "lifted leg bent", lambda j: -lifted_leg_bend(j)),
        ("pushups_on_knees", "hips sagging", lambda j: hip_deviation(j).min()),
        ("pushups_on_knees", "not going low enough", lambda j: -j[:, J["chest"], 2].min()),
        ("squat_jump", "not going deep enough", deepest_knees),
        ("squat_jump", "not jumping high enough", jump),
        ("squat_jump", "arms not swinging", lambda j: (j[:, J["left_wrist"], 2] - j[:, J["head"], 2]).max()),
        ("squats", "not going deep enough", deepest_knees),
        ("squats", "knees falling in", lambda j: (width(j, "knee") / width(j, "ankle")).min()),
        ("tricep_stretch", "leaning to the side", lambda j: -trunk_lean(j, 1)),
        ("tricep_stretch", "elbow too low", highest_elbow),
    ],
)
def test_good_and_faulty_clips_do_not_overlap_in_what_the_fault_is_about(exercise, fault, measure):
    good, faulty = measure_all(exercise, NO_ISSUE, measure), measure_all(exercise, fault, measure)
    assert good.min() > faulty.max()
    assert good.min() - faulty.max() > 0.25 * (good.mean() - faulty.mean())


def test_every_exercise_has_two_faults_or_more_and_short_advice():
    assert tuple(EXERCISES) == names.EXERCISES
    for exercise in EXERCISES.values():
        assert len(exercise.faults) >= 2
    for fault, advice in render.ADVICE.items():
        assert len(advice.split()) <= 10, fault


def test_other_movements_share_neither_names_nor_labels_with_the_exercises():
    assert len(MOVEMENTS) >= 30
    assert not set(MOVEMENTS) & set(EXERCISES)
    assert not [name for name in MOVEMENTS if "squat" in name or "pushup" in name or "tricep" in name]
    faults = {fault for exercise in EXERCISES.values() for fault in exercise.faults}
    others = {fault for movement in MOVEMENTS.values() for fault in movement.faults}
    assert not faults & others
    assert faults | others == set(render.ADVICE)
    assert len(set(render.ADVICE.values())) == len(render.ADVICE)


@pytest.mark.parametrize(
    ("exercise", "planted"),
    [
        ("squats", ("left_ankle", "right_ankle", "left_toe", "right_toe")),
        ("knee_circles", ("left_ankle", "right_ankle", "left_toe", "right_toe")),
        ("tricep_stretch", ("left_ankle", "right_ankle")),
        ("pushups_on_knees", ("left_knee", "right_knee", "left_wrist", "right_wrist", "left_hand")),
    ],
)
def test_what_is_planted_stays_where_it_is(exercise, planted):
    for variation in (NO_ISSUE, *EXERCISES[exercise].faults):
        for seed in range(5):
            held = joints(ClipSpec(exercise, variation, (seed,)))[0][:, [J[name] for name in planted]]
            assert np.ptp(held, axis=0).max() < 0.02, (variation, seed)
            assert held[..., 2].max() < 0.11


def test_supporting_hands_and_knees_of_the_lifts_stay_on_the_floor():
    j = joints(ClipSpec("opposite_arm_and_leg_lifts_on_knees", seed=(3,)))[0]
    assert np.abs(heights(j, "wrist").min(axis=1) - 0.035).max() < 0.02
    assert np.abs(heights(j, "knee").min(axis=1) - 0.055).max() < 0.02


@pytest.mark.parametrize("name", [*EXERCISES, *MOVEMENTS])
def test_no_movement_sinks_into_the_floor_or_stands_still_beyond_it(name):
    movement = render.find_movement(name)
    for variation in (NO_ISSUE, *movement.faults):
        j = joints(ClipSpec(name, variation, (5, 5)))[0]
        assert j.shape == (150, len(JOINTS), 3)
        assert np.isfinite(j).all()
        assert j[..., 2].min() > -0.04, variation
        assert j[..., 2].min() < 0.3, variation


def test_random_movements_differ_and_stay_above_the_floor():
    postures = set()
    for seed in range(60):
        spec = ClipSpec("random", seed=(9, seed))
        assert joints(spec)[0][..., 2].min() > -0.1
        postures.add(describe(spec)["posture"])
    assert len(postures) >= 8


def test_the_figure_is_inside_the_square_that_a_centre_crop_keeps():
    for spec in sample_specs().values():
        pixels = joints(spec)[1]
        assert pixels[..., 0].min() >= 40
        assert pixels[..., 0].max() <= 280
        assert pixels[..., 1].min() >= 0
        assert pixels[..., 1].max() <= 240


def test_the_description_says_what_is_wrong():
    assert describe(ClipSpec("squats", seed=(1,)))["knee_bend"] == "deep"
    assert describe(ClipSpec("squats", "not going deep enough", (1,)))["knee_bend"] == "slight"
    assert describe(ClipSpec("squats", "knees falling in", (1,)))["knees"] == "in"
    assert describe(ClipSpec("pushups_on_knees", seed=(1,)))["trunk"] == "straight"
    assert describe(ClipSpec("pushups_on_knees", "hips sagging", (1,)))["trunk"] == "sagging"
    assert describe(ClipSpec("squat_jump", seed=(1,)))["jump"] == "high"
    assert describe(ClipSpec("tricep_stretch", seed=(1,)))["arms"] == "behind the head"
    assert describe(ClipSpec("knee_circles", seed=(1,)))["arms"] == "on the knees"
    assert describe(ClipSpec("opposite_arm_and_leg_lifts_on_knees", seed=(1,)))["legs_move"] == "alternating"


def test_the_same_spec_gives_the_same_pixels_and_bytes(tmp_path):
    spec = ClipSpec("squat_jump", "not going deep enough", (4, 2))
    render._scene.cache_clear()
    first = frames(spec, [0, 50, 149])
    render._scene.cache_clear()
    assert (frames(spec)[[0, 50, 149]] == first).all()
    assert first.shape == (3, 240, 320, 3)
    assert first.dtype == np.uint8
    for name in ("a.mp4", "b.mp4"):
        write_clip(spec, tmp_path / name)
    assert (tmp_path / "a.mp4").read_bytes() == (tmp_path / "b.mp4").read_bytes()
    assert (frames(ClipSpec("squat_jump", "not going deep enough", (4, 3)), [0]) != first[0]).any()


def test_all_clips_of_the_sample_are_the_same_bytes_each_time_in_this_process_and_in_another(tmp_path, monkeypatch):
    # decord's FFmpeg takes the place of PyAV's where it is loaded first.
    code = "import sys, decord; from mobilevideogpt.sample.render import write_sample; write_sample(sys.argv[1])"
    monkeypatch.setattr(render, "frames", functools.cache(frames))  # drawn once in this process, encoded twice
    with subprocess.Popen([sys.executable, "-c", code, tmp_path / "other"]) as other:
        for name in ("first", "second"):
            write_sample(tmp_path / name)
    assert other.returncode == 0
    for clip in sample_specs():
        assert len({(tmp_path / name / clip).read_bytes() for name in ("first", "second", "other")}) == 1, clip
        assert b"Lavf" not in (tmp_path / "first" / clip).read_bytes()  # a version


def test_unknown_movements_and_variations_are_named():
    with pytest.raises(ValueError, match="swimming"):
        frames(ClipSpec("swimming"))
    with pytest.raises(ValueError, match="too wet"):
        frames(ClipSpec("squats", "too wet"))


def test_the_sample_holds_clips_labels_and_a_manifest(tmp_path):
    write_sample(tmp_path, seed=5, clips_per_exercise=2, split="test")
    paths = names.clip_names(2)
    assert json.loads((tmp_path / "manifest.json").read_text()) == {path: path.split("/")[0] for path in paths}
    labels = json.loads((tmp_path / "fine_grained_labels.json").read_text())
    assert [label["video_path"] for label in labels] == paths
    for path, label in zip(paths, labels, strict=True):
        exercise, fault = label["labels"][0].split(" - ")
        assert exercise == path.split("/")[0].replace("_", " ")
        assert label["labels_descriptive"] == [f"{exercise} - {render.ADVICE.get(fault, NO_ISSUE)}"]
        assert label["split"] == "test"
        with av.open(str(tmp_path / path)) as container:
            stream = container.streams.video[0]
            assert (stream.codec_context.name, stream.pix_fmt) == ("h264", "yuv420p")
            assert (stream.width, stream.height, stream.average_rate) == (320, 240, 30)
            assert len(list(container.decode(stream))) == 150


def test_five_clips_hold_two_good_ones_and_three_with_a_fault():
    for exercise in names.EXERCISES:
        variations = [spec.variation for path, spec in sample_specs().items() if path.startswith(f"{exercise}/")]
        assert variations.count(NO_ISSUE) == 2
        assert set(variations) - {NO_ISSUE} == set(render.SAMPLE_FAULT[exercise])


def test_other_seeds_give_other_clips_under_the_same_names():
    first, second = sample_specs(0), sample_specs(1000)
    assert first.keys() == second.keys()
    assert not {spec.seed for spec in first.values()} & {spec.seed for spec in second.values()}


def test_the_names_need_the_standard_library_alone():
    code = "import sys; import mobilevideogpt.sample.names; sys.exit('numpy' in sys.modules or 'cv2' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
