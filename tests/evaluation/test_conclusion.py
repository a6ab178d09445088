"""The conclusion that the page draws from scores."""

import pytest

from mobilevideogpt.evaluation.conclusion import Tone, conclude, wilson_interval


def metrics(base, tuned, own, shown, kept, n=60, named=False, kept_answer=None):
    def scores(exercise, feedback):
        return {"n": n, "n_feedback": n, "exercise_accuracy": exercise, "feedback_accuracy": feedback}

    control = {"shown_exercise_accuracy": shown, "kept_exercise": kept}
    control |= {"n_differing": n, "kept_answer": kept if kept_answer is None else kept_answer}
    return {
        "base": scores(base, base),
        "finetuned": scores(tuned, tuned),
        "mismatched_video": scores(own, own) | control,
        "settings": {"prompt_names_exercise": named, "answers": "labels"},
    }


def test_a_model_that_names_the_shown_exercise_looks_at_the_video():
    conclusion = conclude(metrics(0, 5 / 6, 0, 5 / 6, 0, n=6))
    assert conclusion.headline == "The model learned the exercises, and it looks at the video"
    assert conclusion.sentences[-1] == (
        "The control shows another exercise's clip under the same prompt. The model then named the shown exercise in "
        "5 of 6 cases and kept its answer in 0 of 6: it looks at the video."
    )
    assert "only 6 test clips" in conclusion.caution


def test_a_model_that_keeps_its_answer_is_found_out():
    conclusion = conclude(metrics(0.1, 0.9, 0.9, 0, 1.0))
    assert (conclusion.tone, conclusion.headline) == (
        Tone.BAD,
        "The model learned the exercises, but it hardly looks at the video",
    )
    assert conclusion.caution is None


@pytest.mark.parametrize("tuned", [1 / 6, 0.2])
def test_a_rise_within_chance_is_not_called_learning(tuned):
    assert conclude(metrics(1 / 6, tuned, 0, 0.2, 0.2)).headline.startswith(
        "The test does not show that the model learned"
    )


def test_where_the_prompt_names_the_exercise_the_feedback_is_compared():
    conclusion = conclude(metrics(0, 0.7, 0.1, 0.2, 1.0, named=True, kept_answer=0.1))
    assert "naming it proves nothing" in conclusion.sentences[0]
    assert conclusion.headline == "The model learned the feedback, and it looks at the video"


def test_where_no_shown_clip_calls_for_another_answer_the_control_is_undecided():
    scores = metrics(0, 0.9, 0.9, 0.2, 1.0, named=True)
    scores["mismatched_video"] |= {"n_differing": 0, "kept_answer": None}
    conclusion = conclude(scores)
    assert conclusion.headline == "The model learned the feedback, but it is not clear whether it looks at the video"
    assert "No shown clip calls for another answer" in conclusion.sentences[-1]


def test_of_free_text_the_whole_answers_are_compared():
    scores = metrics(0, 0.7, 0.1, 0.2, 1.0, kept_answer=0.1)
    scores["settings"]["answers"] = "questions"
    for name in ("base", "finetuned", "mismatched_video"):
        scores[name]["exercise_accuracy"] = None
    conclusion = conclude(scores)
    assert "word for word" in conclusion.sentences[0] and "names the exercise" not in " ".join(conclusion.sentences)
    assert conclusion.headline == "The model learned the answers, and it looks at the video"


def test_the_interval_is_wilsons():
    assert wilson_interval(5, 6) == pytest.approx((0.4365, 0.9699), abs=1e-4)
    assert wilson_interval(0, 6)[0] == 0
