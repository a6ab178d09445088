import json

import pytest

from mobilevideogpt.annotations.samples import read_samples
from mobilevideogpt.errors import InputError

GOOD = {
    "video": "a.mp4",
    "exercise": "squats",
    "conversations": [{"from": "human", "value": "<video>\nQ"}, {"from": "gpt", "value": "A"}],
}


def turns(human, answer):
    return [{"from": "human", "value": human}, {"from": "gpt", "value": answer}]


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("{", "not valid JSON"),
        ({}, "contains a dict"),
        ([GOOD, 3], "sample 2"),
        ([GOOD, {"video": "b.mp4"}], "sample 2, b.mp4"),
        ([GOOD, {**GOOD, "exercise": ""}], 'sample 2, a.mp4: has no "exercise"'),
        ([{name: GOOD[name] for name in ("video", "conversations")}], 'sample 1, a.mp4: has no "exercise"'),
        ([GOOD | {"conversations": turns("Q", "A")}], "sample 1, a.mp4"),  # no <video>, as the predecessor wrote
        ([GOOD | {"conversations": turns("<video>\n<video>\nQ", "A")}], "sample 1, a.mp4"),
        ([GOOD | {"conversations": turns("<video>\nQ", "A <video>")}], "sample 1, a.mp4"),
        ([GOOD | {"conversations": turns("<video>\nQ", " ")}], "sample 1, a.mp4"),
        ([GOOD | {"conversations": turns("<video>\nQ", 3)}], "sample 1, a.mp4"),
        ([GOOD | {"conversations": GOOD["conversations"][::-1]}], "sample 1, a.mp4"),
        ([GOOD | {"conversations": GOOD["conversations"] * 2}], "sample 1, a.mp4"),
        ([GOOD | {"video": None}], 'sample 1: has no "video"'),
    ],
)
def test_malformed_samples_are_refused_with_file_sample_and_remedy(write, content, part):
    path = write("results/qved_train.json", content if isinstance(content, str) else json.dumps(content))
    with pytest.raises(InputError) as error:
        read_samples(path)
    for expected in (path, part, "`snakemake annotations`"):
        assert expected in str(error.value)
