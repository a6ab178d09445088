"""The report of the clip check."""

from mobilevideogpt.annotations.samples import unusable
from mobilevideogpt.verification.clip_report import clip_report, clip_tables, read_clip_checks

MEASURES = {"brightness": 100.0, "sharpness": 50.0, "motion": 3.0}
MEASURES |= {"reencode": [], "hashes": [], "hash_seconds": 1.0}
GOOD = MEASURES | {"video": "dataset/squats/1.mp4", "verdict": "ok", "problems": [], "digest": "a"}
SHORT = GOOD | {
    "video": "dataset/squats/0.mp4",
    "verdict": "warning",
    "problems": ["has 1 frame | take a longer clip"],
    "digest": "b",
}
BAD = GOOD | {
    "video": "dataset/squats/2.mp4",
    "verdict": "error",
    "problems": ["is damaged; copy it again"],
    "digest": None,
    "brightness": None,
}


def test_a_warning_is_counted_and_an_error_is_not_ok():
    report = clip_report([GOOD, SHORT])
    assert report["ok"] and [clip["video"] for clip in report["clips"]] == [SHORT["video"], GOOD["video"]]
    assert report["clips"][1] == {
        **{name: GOOD[name] for name in ("video", "verdict", "problems", "digest")},
        "file": GOOD["video"],
    }
    report = clip_report([GOOD, BAD, SHORT])
    assert not report["ok"]
    [check] = report["checks"]
    assert check["detail"] == "3 clips: 1 ok, 1 with a warning, 1 with an error"
    assert check["remedy"] == "dataset/squats/2.mp4: is damaged; copy it again; or set integrity.on_error: leave_out"
    assert unusable(report) == {"dataset/squats/2.mp4": ["is damaged; copy it again"]}
    assert not clip_report([])["ok"]


def test_of_many_errors_the_first_reasons_are_in_place_and_the_others_on_the_page():
    bad = [BAD | {"video": f"dataset/squats/{i}.mp4"} for i in range(5)]
    [check] = clip_report(bad, page="results/verify/report.md")["checks"]
    assert check["detail"] == "5 clips: 5 with an error"
    assert "dataset/squats/2.mp4: is damaged; copy it again; 2 more in results/verify/report.md; or" in check["remedy"]
    [check] = clip_report([BAD, GOOD], on_error="leave_out")["checks"]
    assert check["detail"] == "2 clips: 1 ok, 1 with an error, which is left out"


def test_clips_with_an_error_may_be_left_out_but_not_all():
    report = clip_report([GOOD, BAD], on_error="leave_out")
    assert report["ok"] and "1 with an error, which is left out" in report["checks"][0]["detail"]
    assert list(unusable(report)) == [BAD["video"]]
    assert not clip_report([BAD], on_error="leave_out")["ok"]


def test_a_clip_out_of_the_bounds_of_quality_is_an_error_and_one_without_a_measure_passes():
    report = clip_report([GOOD, SHORT, BAD | {"verdict": "ok", "problems": []}], bounds={"brightness": (101, None)})
    assert list(unusable(report)) == [SHORT["video"], GOOD["video"]]
    assert "brightness 100 is out of the bounds in integrity.brightness" in unusable(report)[GOOD["video"]][0]
    assert clip_report([GOOD], bounds={"brightness": (None, None), "motion": (3, 3)})["ok"]


def test_a_re_encoded_file_is_used_for_its_clip_while_the_clip_is_unchanged():
    hung = BAD | {"digest": "c", "reencode": ["decoder"]}
    oblong = SHORT | {"reencode": ["pixels"]}
    new = {
        hung["video"]: {"of": "c", "file": "results/reencoded/squats/2.mp4", "digest": "d"},
        oblong["video"]: {"of": "b", "file": "results/reencoded/squats/0.mp4", "digest": "e"},
    }
    report = clip_report([hung, oblong], reencoded=new)
    assert report["ok"]
    assert [(clip["file"], clip["digest"], clip["verdict"]) for clip in report["clips"]] == [
        ("results/reencoded/squats/0.mp4", "e", "warning"),
        ("results/reencoded/squats/2.mp4", "d", "warning"),
    ]
    assert "pixels that are not square" in report["clips"][0]["problems"][0]
    old = clip_report([hung | {"digest": "changed"}], reencoded=new)
    assert old["clips"][0]["file"] == hung["video"] and not old["ok"]
    failed = clip_report([hung], reencoded={hung["video"]: {"of": "c", "problem": "could not be re-encoded"}})
    assert "it could not be re-encoded" in failed["clips"][0]["problems"][1]


def test_the_tables_list_each_clip_with_a_warning_or_an_error():
    exercises = {clip["video"]: "lunges" for clip in (GOOD, BAD, SHORT)}  # whatever the folder's name
    page = "\n".join(clip_tables(clip_report([GOOD, BAD, SHORT])["clips"], exercises))
    assert "| dataset/squats/2.mp4 | error | is damaged; copy it again |" in page
    assert "has 1 frame \\| take a longer clip" in page
    assert "| lunges | 3 |" in page and "| squats" not in page
    assert "dataset/squats/1.mp4" not in page


def test_clip_checks_are_read_from_files_of_one_and_of_many(write):
    files = [write("results/one.json", GOOD), write("results/many.json", [BAD, SHORT])]
    assert list(read_clip_checks(files)) == [GOOD, BAD, SHORT]
