"""The conclusion from predictions: on made-up rows, on simulated models, and from files."""

import json
import subprocess
import sys

import pytest

from benchmarks.conclusion import GAINS, NOTHING, table
from mobilevideogpt.errors import InputError
from mobilevideogpt.evaluation.conclusion import Tone, conclude, main
from mobilevideogpt.evaluation.scoring import question_of
from tests.evaluation.rows import samples_of

EXERCISES = ("squats", "lunges", "plank")
FEEDBACK = ("knees in", "too fast", "good form")
OPEN_PROMPT = "<video>\nWhat do you see?"


def labelled(n, prompt=OPEN_PROMPT, feedback=FEEDBACK):
    """Clips of three exercises in one folder; the shown clip is the next one, so of another exercise and feedback."""
    rows = []
    for i in range(n):
        exercise = EXERCISES[i % 3]
        reference = f"{exercise} - {feedback[i % len(feedback)]}"
        rows.append({"video": f"short_clips/{i:08}.mp4", "exercise": exercise, "reference": reference, "base": ""})
        rows[-1]["prompt"] = prompt.format(exercise=exercise)
    for row, other in zip(rows, rows[1:] + rows[:1], strict=True):
        row |= {"shown_video": other["video"], "shown_exercise": other["exercise"]}
        row |= {"finetuned": row["reference"], "mismatched_video": other["reference"]}
    return rows


def conclusion_of(rows):
    return conclude(rows, samples_of(rows))


def test_a_model_that_is_right_and_follows_the_shown_clip_learned_and_looks():
    found = conclusion_of(labelled(24))
    assert (found.learned, found.looks, found.tone) == (True, True, Tone.GOOD)
    assert found.headline == "The model learned the exercises, and it looks at the video"
    assert "names the exercise correctly in 24 of 24 samples" in found.sentences[0]
    assert "24 of 24 answers change to it, 0 are still those of the prompt's own clip" in found.sentences[-1]


def test_a_paired_test_with_its_counts_and_p_value_is_in_the_sentences():
    rows = [row | {"base": row["reference"] if i % 3 == 0 else ""} for i, row in enumerate(labelled(9))]
    found = conclusion_of(rows)
    decisive = next(test for test in found.tests if test.decides)
    assert decisive.name == "base" and "6 better, 0 worse, p = 0.031" in found.sentences[1].replace(
        "\N{NO-BREAK SPACE}", " "
    )
    assert found.learned is True
    chance = next(test.comparison for test in found.tests if test.name == "chance")
    assert chance.better is None and chance.difference == pytest.approx(2 / 3)


def test_a_model_that_keeps_its_answer_hardly_looks():
    rows = [row | {"mismatched_video": row["finetuned"]} for row in labelled(24)]
    found = conclusion_of(rows)
    assert (found.learned, found.looks, found.tone) == (True, False, Tone.BAD)
    assert found.headline == "The model learned the exercises, but it hardly looks at the video"


def test_a_constant_answer_hardly_looks_even_where_the_shown_clips_call_for_it():
    rows = labelled(24)
    plank = next(row["video"] for row in rows if row["exercise"] == "plank")
    for row in rows:  # one clip is shown to all others
        row["finetuned"] = row["mismatched_video"] = "plank - good form"
        if row["exercise"] != "plank":
            row |= {"shown_video": plank, "shown_exercise": "plank"}
    found = conclusion_of(rows)
    assert (found.learned, found.looks, found.tone) == (None, False, Tone.BAD)


def test_two_clips_cannot_tell_and_the_page_says_how_many_would():
    rows = labelled(2)
    found = conclusion_of(rows)
    assert (found.learned, found.looks, found.tone) == (None, None, Tone.OPEN)
    assert found.headline.startswith("The test cannot tell whether the model learned the exercises")
    assert any("more test clips would tell: " in sentence for sentence in found.sentences)


def test_a_model_no_better_than_the_base_is_told_so_where_a_gain_is_excluded():
    rows = [row | {"base": row["finetuned"]} for row in labelled(120)]
    found = conclusion_of(rows)
    assert (found.learned, found.tone) == (False, Tone.BAD)
    assert "did not learn the exercises: it is no better than the base" in found.headline
    few = conclusion_of([row | {"base": row["finetuned"]} for row in labelled(9)])
    assert few.learned is None


def test_a_model_worse_than_the_base_did_not_learn():
    found = conclusion_of([row | {"base": row["reference"], "finetuned": ""} for row in labelled(24)])
    assert found.learned is False and "worse than the base" in found.headline


def test_where_the_prompt_names_the_exercise_the_commonest_feedback_is_what_to_beat():
    feedback = ("knees in", "no obvious issue", "no obvious issue", "too fast", "no obvious issue")
    rows = labelled(60, "<video>\nCheck these {exercise}.", feedback)
    constant = [row | {"finetuned": f"{row['exercise']} - no obvious issue"} for row in rows]
    found = conclusion_of(constant)
    assert found.learned is False and found.task.subject == "feedback"
    assert "commonest feedback of the training split (no obvious issue)" in found.headline
    assert "naming it proves nothing" in found.sentences[0]
    assert conclusion_of(rows).learned is True


def test_a_constant_that_is_rare_in_training_is_no_learning_either():
    rows = labelled(60, "<video>\nCheck these {exercise}.", ("knees in", "too fast", "too fast", "too fast"))
    constant = [row | {"finetuned": f"{row['exercise']} - too fast"} for row in rows]
    train = samples_of([row for row in rows if row["reference"].endswith("knees in")])
    assert conclude(constant, train).learned is False


def test_clips_of_one_person_count_as_one():
    rows = [row | {"group": f"person {i % 4}"} for i, row in enumerate(labelled(24))]
    found = conclusion_of(rows)
    assert found.learned is None  # four persons
    assert {(test.comparison.n, test.comparison.groups) for test in found.tests} == {(24, 4)}
    assert "The 24 samples show 24 clips in 4 groups" in found.sentences[0]


def test_questions_about_one_clip_count_as_one():
    rows = [row | {"video": f"{i // 3}.mp4"} for i, row in enumerate(labelled(24))]
    decisive = next(test.comparison for test in conclusion_of(rows).tests if test.decides)
    assert (decisive.n, decisive.groups) == (24, 8)


def questions(n, asked=("Is it deep?", "Is the back straight?", "Is it slow?"), answers="yes no"):
    """Three questions about each clip; the shown clip is the next one."""
    rows = []
    for i in range(n):
        for j, question in enumerate(asked):
            answer = answers.split()[(i // 2 + i * j + (i // 3) * j) % 2]
            rows.append({"video": f"{i}.mp4", "exercise": EXERCISES[i % 3], "prompt": f"<video>\n{question}"})
            rows[-1] |= {"reference": answer, "base": "", "finetuned": answer}
    right = {(row["video"], row["prompt"]): row["reference"] for row in rows}
    for row in rows:
        i = (int(row["video"].split(".")[0]) + 1) % n
        row |= {"shown_video": f"{i}.mp4", "shown_exercise": EXERCISES[i % 3]}
        row["mismatched_video"] = right.get((row["shown_video"], row["prompt"]), "no idea")
    return rows


def test_a_perfect_oracle_of_questions_looks_at_the_video():
    rows = questions(24)
    found = conclusion_of(rows)
    follows = next(test.comparison for test in found.tests if test.name == "follows_shown_clip")
    differing = sum(row["reference"] != row["mismatched_video"] for row in rows)
    assert follows.n == differing < len(rows)
    assert (found.learned, found.looks, found.task.subject) == (True, True, "answers")


def test_questions_that_are_asked_of_one_exercise_only_have_no_control():
    rows = questions(24)
    for row in rows:
        row["prompt"] += f" ({row['exercise'][:2]})"
    assert len({question_of(row["prompt"], row["exercise"]) for row in rows}) == 9
    found = conclusion_of(rows)
    assert found.looks is None and found.tone is Tone.MIXED
    assert found.sentences[-1].endswith("Not possible: no question is asked of the shown clip, too.")


def test_one_exercise_has_no_control_and_a_conclusion_all_the_same():
    rows = [
        row | {"exercise": "squats", "reference": f"squats - {FEEDBACK[i % 3]}"} for i, row in enumerate(labelled(24))
    ]
    rows = [row | {"finetuned": row["reference"], "mismatched_video": None, "shown_video": None} for row in rows]
    found = conclusion_of(rows)
    assert (found.learned, found.looks, found.tone) == (True, None, Tone.MIXED)
    assert "not possible: one exercise in the test split" in found.headline


def test_where_every_shown_clip_calls_for_the_same_answer_there_is_no_control():
    found = conclusion_of(labelled(24, "<video>\nCheck these {exercise}.", ("good form",)))
    assert found.looks is None and "no shown clip calls for another answer" in found.headline


def test_free_text_that_nobody_matches_cannot_be_judged_by_matches():
    rows = [row | {"reference": f"Go {i} times deeper.", "finetuned": "Go."} for i, row in enumerate(labelled(300))]
    found = conclusion_of([row | {"mismatched_video": f"Go {row['video']}."} for row in rows])
    assert (found.learned, found.looks, found.tone) == (None, None, Tone.OPEN)
    assert any("ROUGE-L" in sentence for sentence in found.sentences)


def test_labels_in_another_order_are_right():
    rows = [row | {"reference": f"{row['reference']}; {row['exercise']} - a"} for row in labelled(24)]
    rows = [row | {"finetuned": "; ".join(row["reference"].split("; ")[::-1])} for row in rows]
    rows = [row | {"prompt": f"<video>\nCheck these {row['exercise']}."} for row in rows]
    assert conclusion_of(rows).shares["finetuned"].value == 1


def test_references_without_feedback_are_said_to_tell_nothing():
    rows = labelled(24, "<video>\nCheck these {exercise}.")
    found = conclusion_of([row | {"reference": row["exercise"]} for row in rows])
    assert (found.learned, found.tone) == (None, Tone.OPEN)
    assert any("No reference contains feedback" in sentence for sentence in found.sentences)


def test_a_row_that_lacks_a_key_is_named():
    rows = labelled(2)
    del rows[1]["exercise"]
    with pytest.raises(InputError, match=r"prediction 2 .*00000001\.mp4\): has no exercise"):
        conclude(rows, [])
    with pytest.raises(InputError, match="no predictions"):
        conclude([], [])


@pytest.fixture(scope="module")
def simulated():
    return list(table(20, seed=1))


@pytest.mark.parametrize("case", NOTHING)
def test_a_model_that_learned_nothing_is_called_learned_in_at_most_5_percent(simulated, case):
    told = [share for name, _, share, _ in simulated if name == case]
    assert sum(told) / len(told) <= 0.05


@pytest.mark.parametrize("case", GAINS)
def test_a_real_gain_is_found_as_often_as_by_mcnemars_test(simulated, case):
    for name, n, told, found in simulated:
        if name == case and ("questions" not in case or n >= 120):
            assert told >= found, n
    assert next(told for name, n, told, _ in simulated if name == case and n == 300) >= 0.95


def test_the_conclusion_is_printed_from_files_alone(tmp_path, capsys):
    rows = labelled(9)
    predictions, train = tmp_path / "predictions.jsonl", tmp_path / "train.json"
    predictions.write_text("".join(json.dumps(row) + "\n" for row in rows))
    train.write_text(json.dumps(samples_of(rows)))
    main([str(predictions), "--train", str(train)])
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads(json.dumps(conclusion_of(rows).to_json()))
    assert {"learned", "looks", "tone", "headline", "sentences", "tests", "intervals"} <= printed.keys()
    assert {"name", "better", "worse", "n", "groups", "difference", "interval", "p"} <= printed["tests"][0].keys()
    with pytest.raises(SystemExit, match=r"gone\.jsonl: there is no such file"):
        main([str(tmp_path / "gone.jsonl"), "--train", str(train)])


def test_the_conclusion_does_not_load_torch():
    code = "import sys, mobilevideogpt.evaluation.conclusion; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
