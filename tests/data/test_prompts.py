import pytest

from mobilevideogpt.data.prompts import with_video


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("<video>\nWhat is wrong?", "<video>\nWhat is wrong?"),
        ("<video>What is wrong?", "<video>What is wrong?"),
        ("Look at <video> and say what is wrong.", "Look at <video> and say what is wrong."),
        ("What is wrong?", "<video>\nWhat is wrong?"),
        ("What is wrong?\n<video>", "<video>\nWhat is wrong?"),
    ],
)
def test_the_prompt_contains_the_video_once(prompt, expected):
    assert with_video(prompt) == expected


def test_two_videos_in_a_prompt_are_refused():
    with pytest.raises(ValueError, match="2 times"):
        with_video("<video> or <video>?")
