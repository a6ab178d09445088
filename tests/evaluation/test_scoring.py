"""What an answer says, and what the answers of a data set are about."""

import pytest

from mobilevideogpt.evaluation.scoring import Task, feedback, mentions, named_exercise, question_of, set_f1, task_of

EXERCISES = ("side plank", "side plank - left", "push-ups", "squats")


@pytest.mark.parametrize(
    ("answer", "exercise", "parts"),
    [
        ("push-ups - hips sagging - lift them", "push-ups", {"hips sagging - lift them"}),
        ("Push ups – hips sagging.", "push-ups", {"hips sagging"}),
        ("side plank - left - hips", "side plank - left", {"hips"}),
        ("squats - a; squats - b", "squats", {"a", "b"}),
        ("squats", "squats", set()),
        ("good form", None, {"good form"}),
        ("", None, set()),
    ],
)
def test_an_answer_is_divided_by_the_exercises_of_the_data(answer, exercise, parts):
    assert named_exercise(answer, EXERCISES) == exercise
    assert feedback(answer, EXERCISES) == parts


def test_an_exercise_is_mentioned_in_whole_words():
    assert mentions("Analyze this Squat Jump.", "squat_jump") and mentions("these push ups", "push-ups")
    assert not mentions("What is growing?", "row")


def test_a_question_is_equal_for_all_exercises_of_a_template():
    assert question_of("<video>\nCheck this squat jump.", "squat_jump") == question_of(
        "<video>\nCheck this plank.", "plank"
    )
    assert question_of("Is the back straight?", "plank") != question_of("Is it deep?", "plank")


def row(exercise, prompt, reference):
    return {"exercise": exercise, "prompt": prompt, "reference": reference}


def test_the_subject_follows_from_the_samples():
    named = [row("squats", "These squats?", "squats - a"), row("lunges", "These lunges?", "lunges - b")]
    assert task_of(named, []).subject == "feedback"
    assert task_of([r | {"prompt": "What?"} for r in named], []).subject == "exercises"
    assert task_of(named[:1], []).subject == "feedback"
    assert task_of([r | {"reference": "Good."} for r in named], []).subject == "answers"


def test_the_exercise_of_the_manifest_is_the_right_one():
    task = Task(("lunges", "squats"), free_text=False, prompt_names_exercise=False)
    assert task.reference("lunges - good", "squats") == {"squats"} != task.content("lunges - good")


def test_the_f1_of_sets():
    assert set_f1(frozenset("ab"), frozenset("bc")) == 0.5
    assert (set_f1(frozenset(), frozenset()), set_f1(frozenset("a"), frozenset())) == (1, 0)
