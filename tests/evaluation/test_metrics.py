"""Scores on answers whose right value can be counted by hand."""

import csv
import io

import pytest
import sacrebleu

from mobilevideogpt.errors import InputError
from mobilevideogpt.evaluation.metrics import control_scores, predictions_csv
from mobilevideogpt.evaluation.metrics import score as score_rows
from mobilevideogpt.evaluation.scoring import task_of

SQUAT, STRETCH = "squats - not going deep enough", "tricep stretch - elbow pointing forward"
PROMPT = "<video>\nWhat do you see?"


def rows_of(references, answers, exercises=None, **keys):
    exercises = exercises or [reference.split(" - ")[0] for reference in references]
    return [
        {
            "video": f"{i}.mp4",
            "exercise": exercise,
            "prompt": PROMPT,
            "reference": reference,
            "finetuned": answer,
            **keys,
        }
        for i, (reference, answer, exercise) in enumerate(zip(references, answers, exercises, strict=True))
    ]


def score(references, answers, exercises=None):
    rows = rows_of(references, answers, exercises)
    return score_rows(rows, "finetuned", task_of(rows, []))


def test_exercise_and_feedback_are_scored_separately():
    scores = score([SQUAT, STRETCH, SQUAT, STRETCH], [SQUAT, "tricep stretch - good form", STRETCH, ""])
    assert (scores["n"], scores["exercise_accuracy"], scores["feedback_accuracy"]) == (4, 0.5, 0.25)
    assert scores["counts"] == {"exercise_accuracy": [2, 4], "feedback_accuracy": [1, 4]}


def test_case_space_underscores_and_final_punctuation_do_not_matter():
    assert score([SQUAT], ["  Squats  -  Not going\ndeep enough. "])["feedback_accuracy"] == 1
    assert score(["squat jump - good"], ["squat_jump - good"], ["squat_jump"])["exercise_accuracy"] == 1


def test_accents_may_be_composed_or_not_as_the_tokenizer_composes_them():
    scores = score(["squats - cafe\u0301 now"], ["squats - caf\u00e9 now"])
    assert (scores["feedback_accuracy"], scores["rougeL"]) == (1, 1)


def test_a_hyphenated_exercise_is_not_right_by_its_first_word():
    assert score(["cat-cow pose - good"], ["cat-dog pose - good"])["exercise_accuracy"] == 0


@pytest.mark.parametrize("dash", [" – ", " — "])
def test_a_longer_dash_divides_exercise_and_feedback_too(dash):
    scores = score([f"squats{dash}go deeper"], ["squats - go deeper"], ["squats"])
    assert (scores["exercise_accuracy"], scores["feedback_accuracy"]) == (1, 1)


@pytest.mark.parametrize(
    ("references", "exercises"),
    [(["Good form.", "Go deeper."], ["squats", "lunges"]), (["Good - go on.", "Bad - go back."], ["squats", "lunges"])],
)
def test_a_text_without_the_exercise_of_its_clip_is_free_text(references, exercises):
    scores = score(references, [references[0], references[0]], exercises)
    assert scores["exercise_accuracy"] is scores["exercise_macro_f1"] is scores["confusion"]["exercise"] is None
    assert (scores["n_feedback"], scores["feedback_accuracy"]) == (2, 0.5)
    assert scores["per_exercise"]["squats"]["feedback_accuracy"] == 1


def test_the_exercise_is_that_of_the_manifest_whatever_the_folder():
    rows = rows_of([SQUAT, STRETCH], [SQUAT, SQUAT])
    rows = [row | {"video": f"short_clips/{i}.mp4"} for i, row in enumerate(rows)]
    scores = score_rows(rows, "finetuned", task_of(rows, []))
    assert set(scores["per_exercise"]) == {"squats", "tricep stretch"} and scores["exercise_accuracy"] == 0.5


def test_several_labels_compare_as_sets():
    scores = score(["a - x; a - y"] * 3 + ["a - z"], ["a - y; a - x", "a - x", "a - q", "a - z"])
    assert scores["feedback_accuracy"] == 0.5
    assert scores["set_f1"] == pytest.approx((1 + 2 / 3 + 0 + 1) / 4)


def test_feedback_is_scored_over_the_references_that_contain_some():
    scores = score([SQUAT, "squats"], [SQUAT, "squats"])
    assert (scores["n_feedback"], scores["feedback_accuracy"]) == (1, 1.0)
    assert score(["squats"], ["squats"])["feedback_accuracy"] is None


def test_a_share_is_the_mean_over_groups_and_both_numbers_are_there():
    rows = rows_of([SQUAT] * 4 + [STRETCH], [SQUAT] * 4 + [SQUAT])
    rows = [row | {"group": "person 1" if row["exercise"] == "squats" else "person 2"} for row in rows]
    scores = score_rows(rows, "finetuned", task_of(rows, []))
    assert (scores["n"], scores["groups"], scores["exercise_accuracy"]) == (5, 2, 0.5)
    low, high = scores["intervals"]["exercise_accuracy"]
    assert low < 0.05 and high > 0.95  # two persons


def test_rouge_is_the_mean_longest_common_subsequence_f_measure():
    # 3 of 4 words of the answer, 3 of 3 of the reference: 2 * 0.75 * 1 / 1.75
    scores = score(["bend the knees", "a"], ["bend both the knees", "a"], ["squats", "lunges"])
    assert scores["rougeL"] == pytest.approx((6 / 7 + 1) / 2)


def test_rouge_sees_words_of_any_script():
    references, answers = ["колени наружу", "膝盖向外", "füße"], ["колени внутрь", "膝盖向外", "f e"]
    assert score(references, answers, ["a", "b", "c"])["rougeL"] == pytest.approx(0.5)


def test_chrf_and_bleu_are_those_of_sacrebleu():
    references, answers = ["bend the knees a bit more now", "good"], ["bend both of the knees a bit more", "good"]
    scores = score(references, answers, ["squats", "lunges"])
    assert scores["chrf"] == pytest.approx(sacrebleu.corpus_chrf(answers, [references]).score)
    assert scores["bleu"] == pytest.approx(sacrebleu.corpus_bleu(answers, [references]).score)
    assert 0 < scores["bleu"] < scores["chrf"] < 100


def test_macro_f1_counts_each_exercise_of_the_references_alike():
    scores = score([SQUAT] * 3 + [STRETCH], [SQUAT] * 4)
    assert scores["exercise_accuracy"] == 0.75
    assert scores["exercise_macro_f1"] == pytest.approx((2 * 0.75 / 1.75 + 0) / 2)
    assert scores["per_exercise"]["tricep stretch"]["exercise_accuracy"] == 0
    assert scores["per_exercise"]["tricep stretch"]["intervals"]["exercise_accuracy"][1] > 0.9  # one clip


def test_the_confusion_matrices_count_exercises_and_feedback_within_an_exercise():
    answers = [SQUAT, STRETCH, "squats - good form", "a person", "tricep stretch - elbow pointing forward"]
    confusion = score([SQUAT, SQUAT, "squats - good form", SQUAT, STRETCH], answers)["confusion"]
    assert confusion["exercise"] == {
        "rows": ["squats", "tricep stretch"],
        "columns": ["squats", "tricep stretch", "(none)"],
        "counts": [[2, 1, 1], [0, 1, 0]],
    }
    assert confusion["feedback"]["squats"] == {
        "rows": ["good form", "not going deep enough"],
        "columns": ["good form", "not going deep enough", "(other)"],
        "counts": [[1, 0, 0], [0, 1, 2]],
    }


def test_cut_answers_are_counted():
    rows = rows_of([SQUAT] * 4, [SQUAT] * 4)
    rows[0]["cut"] = {"finetuned": True}
    assert score_rows(rows, "finetuned", task_of(rows, []))["cut"] == 0.25


def test_the_control_is_also_compared_with_the_shown_clip():
    keys = {"mismatched_video": SQUAT, "shown_exercise": "tricep stretch"}
    rows = rows_of([SQUAT, SQUAT, STRETCH], [SQUAT, SQUAT, STRETCH], **keys)
    rows[0]["mismatched_video"] = STRETCH
    rows[2]["shown_exercise"] = "squats"
    scores = control_scores(rows, task_of(rows, []))
    assert scores["shown_exercise_accuracy"] == pytest.approx(2 / 3)
    assert scores["kept_exercise"] == scores["kept_answer"] == pytest.approx(1 / 3)


def test_the_table_of_predictions_has_a_line_a_sample_with_what_is_right():
    rows = rows_of([SQUAT, STRETCH], [SQUAT, 'a "b",\nc'], base="")
    lines = list(csv.DictReader(io.StringIO(predictions_csv(rows, task_of(rows, [])))))
    assert [line["finetuned"] for line in lines] == [SQUAT, 'a "b",\nc']
    assert [line["finetuned_exercise_right"] for line in lines] == ["True", "False"]
    assert [line["base_feedback_right"] for line in lines] == ["False", "False"]
    assert "mismatched_video_cut" not in lines[0]


def test_nothing_to_score_is_an_error_and_not_zero():
    with pytest.raises(InputError, match="test split"):
        score_rows([], "finetuned", task_of([], []))
