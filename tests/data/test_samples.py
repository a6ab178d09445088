import pytest

from mobilevideogpt.data.samples import ClipFile, files_in_use, with_features
from mobilevideogpt.errors import InputError

A, B, C = "dataset/squats/a.mp4", "dataset/squats/b.mp4", "dataset/squats/c.mp4"
REPORT = {
    "clips": [
        {"video": A, "verdict": "ok", "problems": [], "file": A, "digest": "1"},
        {"video": B, "verdict": "warning", "problems": [], "file": "results/reencoded/b.mp4", "digest": "2"},
        {"video": C, "verdict": "error", "problems": ["is damaged; copy it again"], "file": C, "digest": None},
    ]
}


def test_a_sample_gets_the_key_of_the_file_that_is_decoded_for_its_clip():
    files = files_in_use(REPORT, [A, B], where="report.json")
    assert files == {A: ClipFile(A, "1"), B: ClipFile("results/reencoded/b.mp4", "2")}
    samples = [{"video": B, "split": "train"}, {"video": A, "split": "train"}]
    keys = {A: "key of a", "results/reencoded/b.mp4": "key of b"}
    assert [sample["features"] for sample in with_features(samples, files, keys)] == ["key of b", "key of a"]
    assert "features" not in samples[0]


def test_a_clip_with_an_error_ends_it_with_the_clip_and_the_remedy():
    with pytest.raises(
        InputError, match=r"1 of 2 clips cannot be used.*dataset\.exclude.*\n  dataset/squats/c.mp4: is damaged"
    ):
        files_in_use(REPORT, [A, C], where="report.json")


def test_a_clip_with_an_error_that_no_sample_uses_does_not_matter():
    assert set(files_in_use(REPORT, [A], where="report.json")) == {A}
