import json

from mobilevideogpt.annotations.clips import Clip, digest_of_clips
from mobilevideogpt.annotations.manifest import read_manifest


def test_a_reformatted_manifest_gives_the_same_digest_and_another_exercise_a_different_one(write):
    entries = {"squats/1.mp4": "deep squats", "lunges/2.mp4": "lunges"}
    one = write("dataset/manifest.json", entries)
    reordered = {f"./dataset/{clip}": {"exercise": exercise} for clip, exercise in reversed(entries.items())}
    other = write("dataset/other.json", json.dumps(reordered, indent=4))
    clips = read_manifest(one, "dataset")
    assert digest_of_clips(clips) == digest_of_clips(read_manifest(other, "dataset")) == digest_of_clips(clips[::-1])
    assert digest_of_clips(clips) != digest_of_clips([Clip(clips[0].path, "squats"), clips[1]])
