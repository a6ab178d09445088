"""Which clips arguments name, and the exercise in a prompt."""

import pytest

from mobilevideogpt.errors import InputError
from mobilevideogpt.files import write_json
from mobilevideogpt.serving.questions import Prompts, clips_named, clips_to_answer, repository_to_push


@pytest.fixture
def clips(project, write):
    for name in ("a/1.mp4", "a/2.MOV", "b.mp4", "a/notes.pdf"):
        write(name, "")
    return project


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("list.txt", "# mine\na/1.mp4\n\nb.mp4#t=0,2\n"),
        ("list.csv", "video,label\na/1.mp4,good\nb.mp4,bad\n"),
        ("list.json", ["a/1.mp4", {"path": "b.mp4"}]),
        ("manifest.json", {"a/1.mp4": "squats", "b.mp4": "lunges"}),
    ],
)
def test_a_list_names_clips(name, content, clips, write):
    write(name, content)
    found = clips_named([name])
    assert [clip.partition("#")[0] for clip in found] == ["a/1.mp4", "b.mp4"]


def test_a_folder_names_its_clips_and_each_is_named_once(clips):
    assert clips_named(["a", "b.mp4", "a/1.mp4"]) == ["a/1.mp4", "a/2.MOV", "b.mp4"]


def test_paths_of_a_list_may_be_relative_to_it(clips, write):
    write("a/list.txt", "1.mp4\n")
    assert clips_named(["a/list.txt"]) == ["a/1.mp4"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("gone.mp4", None, r"gone\.mp4: there is no such clip"),
        ("empty.txt", "\n", r"empty\.txt: contains no path; write one path a line"),
        ("other.csv", "clip\n1.mp4\n", r"other\.csv: its first line names no column video"),
        ("list.txt", "x.mp4\ny.mp4\n", r"x\.mp4: there is no such clip, and 1 more are missing"),
        ("odd.json", [{"clip": "x"}], r"odd\.json: .*; write one path a line"),
    ],
)
def test_what_names_no_clip_is_said(name, content, message, clips, write):
    if content is not None:
        write(name, content)
    with pytest.raises(InputError, match=message):
        clips_named([name])


def test_snakemake_is_told_what_to_give(clips):
    assert clips_to_answer(["a", "b.mp4"]) == [] == repository_to_push("me/try-2")
    with pytest.raises(InputError, match=r"no clip is given.*video=clip\.mp4"):
        clips_to_answer(None)
    with pytest.raises(InputError, match=r"gone\.mp4: there is no such clip.*--config video="):
        clips_to_answer("gone.mp4")
    for repository in (None, "name", "https://huggingface.co/me/try"):
        with pytest.raises(InputError, match="repo_id=owner/name"):
            repository_to_push(repository)


@pytest.fixture
def data(tmp_path):
    """A data set whose folder names no exercise."""
    write_json({"short_clips/1.mp4": "squats", "short_clips/2.mp4": "lunges"}, tmp_path / "data/manifest.json")
    return str(tmp_path / "data")


def ask(video, data, exercise=None, known=()):
    return Prompts("Analyze this {exercise} video.", data, known).of(video, exercise)


def test_the_prompt_names_the_exercise_of_the_manifest(data, tmp_path):
    assert ask(f"{data}/short_clips/2.mp4", data) == "<video>\nAnalyze this lunges video."
    (tmp_path / "link.mp4").symlink_to(f"{data}/short_clips/1.mp4")
    assert "squats" in ask(tmp_path / "link.mp4", data)
    assert "plank" in ask(f"{data}/short_clips/2.mp4", data, exercise="plank")


def test_a_folder_names_the_exercise_only_where_data_set_or_model_has_it(data, tmp_path, caplog):
    assert "squats" in ask(tmp_path / "squats/new.mp4", data)
    assert "'squats', is the name of the clip's folder" in caplog.text
    assert "knee circles" in ask(tmp_path / "knee_circles/new.mp4", None, known=["knee_circles"])
    with pytest.raises(InputError, match=r"new\.mp4: the prompt names the exercise.*--exercise.*as in lunges, squats"):
        ask(tmp_path / "phone/new.mp4", data)
    assert Prompts("What do you see?").of("phone/new.mp4") == "<video>\nWhat do you see?"
