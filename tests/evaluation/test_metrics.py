"""Scores on answers whose right value can be counted by hand."""

import pytest

from mobilevideogpt.errors import InputError
from mobilevideogpt.evaluation.metrics import score, split_answer

SQUAT, STRETCH = "squats - not going deep enough", "tricep stretch - elbow pointing forward"


def test_exercise_and_feedback_are_scored_separately():
    scores = score([SQUAT, STRETCH, SQUAT, STRETCH], [SQUAT, "tricep stretch - good form", STRETCH, ""])
    assert (scores["n"], scores["exercise_accuracy"], scores["feedback_accuracy"]) == (4, 0.5, 0.25)


def test_case_space_underscores_and_final_punctuation_do_not_matter():
    assert score([SQUAT], ["  Squats  -  Not going\ndeep enough. "])["feedback_accuracy"] == 1
    assert score(["squat jump - good"], ["squat_jump - good"])["exercise_accuracy"] == 1


def test_accents_may_be_composed_or_not_as_the_tokenizer_composes_them():
    scores = score(["squats - cafe\u0301 now"], ["squats - caf\u00e9 now"])
    assert (scores["feedback_accuracy"], scores["rougeL"]) == (1, 1)


@pytest.mark.parametrize(
    ("answer", "parts"),
    [
        ("cat-cow pose - neck strained", ("cat-cow pose", "neck strained")),
        ("push-ups - hips sagging - lift them", ("push-ups", "hips sagging - lift them")),
        ("cat-cow pose", ("cat-cow pose", "")),
        ("", ("", "")),
    ],
)
def test_an_answer_is_split_at_the_spaced_hyphen_only(answer, parts):
    assert split_answer(answer) == parts


def test_a_hyphenated_exercise_is_not_right_by_its_first_word():
    assert score(["cat-cow pose - good"], ["cat-dog pose - good"])["exercise_accuracy"] == 0


def test_feedback_is_scored_over_the_references_that_contain_some():
    scores = score([SQUAT, "squats"], [SQUAT, "squats"])
    assert (scores["n_feedback"], scores["feedback_accuracy"]) == (1, 1.0)
    assert score(["squats"], ["squats"])["feedback_accuracy"] is None


def test_rouge_is_the_mean_longest_common_subsequence_f_measure():
    # 3 of 4 words of the answer, 3 of 3 of the reference: 2 * 0.75 * 1 / 1.75
    assert score(["bend the knees", "a"], ["bend both the knees", "a"])["rougeL"] == pytest.approx((6 / 7 + 1) / 2)


def test_rouge_sees_words_of_any_script():
    assert score(["колени наружу", "膝盖向外", "füße"], ["колени внутрь", "膝盖向外", "f e"])[
        "rougeL"
    ] == pytest.approx(0.5)


def test_macro_f1_counts_each_exercise_of_the_references_alike():
    scores = score([SQUAT] * 3 + [STRETCH], [SQUAT] * 4)
    assert scores["exercise_accuracy"] == 0.75
    assert scores["exercise_macro_f1"] == pytest.approx((2 * 0.75 / 1.75 + 0) / 2)
    assert scores["per_exercise"]["tricep stretch"]["exercise_accuracy"] == 0


def test_the_control_is_also_compared_with_the_shown_clip():
    scores = score([SQUAT, SQUAT], [STRETCH, SQUAT], shown=[STRETCH, STRETCH])
    assert (scores["exercise_accuracy"], scores["shown_exercise_accuracy"]) == (0.5, 0.5)


def test_the_whole_answer_of_free_text_is_scored_and_no_exercise():
    scores = score(
        ["Go deeper - slowly.", "Good!"], ["go deeper - slowly", "Squats - good"], shown=None, free_text=True
    )
    assert (scores["n_feedback"], scores["feedback_accuracy"]) == (2, 0.5)
    assert scores["rougeL"] == pytest.approx((1 + 2 / 3) / 2)
    assert scores["exercise_accuracy"] is scores["exercise_macro_f1"] is None
    assert scores["per_exercise"] == {} and "shown_exercise_accuracy" not in score(
        ["a"], ["a"], shown=["a"], free_text=True
    )


def test_nothing_to_score_is_an_error_and_not_zero():
    with pytest.raises(InputError, match="test split"):
        score([], [])


def test_answers_and_references_must_be_equally_many():
    with pytest.raises(ValueError):
        score([SQUAT], [])
