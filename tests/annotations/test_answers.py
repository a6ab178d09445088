import pytest
from tokenizers import Regex
from tokenizers.pre_tokenizers import Split

from mobilevideogpt.annotations.answers import are_free_text, join_answer, least_tokens, split_label, split_labels


@pytest.mark.parametrize(
    ("label", "exercise", "expected"),
    [
        ("squats - knees in", "squats", (True, "knees in")),
        ("Tricep Stretch - arm bent", "tricep_stretch", (True, "arm bent")),
        ("cat cow pose - good form", "cat-cow_pose", (True, "good form")),
        ("push-ups \u2013 go deeper", "push_ups", (True, "go deeper")),  # en dash
        ("push-ups \u2014 go deeper", "pushups", (True, "go deeper")),  # em dash
        ("squats - knees in - left", "squats", (True, "knees in - left")),
        ("side plank - left - hips sag", "side_plank_-_left", (True, "hips sag")),
        ("squats", "squats", (True, "")),
        ("Good form.", "squats", (False, "Good form.")),
        ("Good - go deeper", "squats", (False, "Good - go deeper")),
        ("lunges - knees in", "squats", (False, "lunges - knees in")),
        ("squats-knees in", "squats", (False, "squats-knees in")),
        ("e\u0301paule - bas", "\u00e9paule", (True, "bas")),  # decomposed by macOS
        (" - knees in", "squats", (False, "- knees in")),
        ("", "squats", (False, "")),
    ],
)
def test_only_the_clips_own_exercise_is_taken_off_a_label(label, exercise, expected):
    assert split_label(label, exercise) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a - x; a - y", ["a - x", "a - y"]),
        ("a - x", ["a - x"]),
        ("a - x;\na - y; ", ["a - x", "a - y"]),
        ("a - x;y", ["a - x;y"]),
        (" ; ", []),
        ("", []),
    ],
)
def test_an_answer_is_divided_into_its_labels(text, expected):
    assert split_labels(text) == expected


def test_equal_sets_of_labels_give_equal_answers():
    assert join_answer(["a - x", "a - y"]) == join_answer(["a - y", "", "a - x", "a - y"]) == "a - x; a - y"


def test_answers_are_free_text_unless_half_begin_with_their_own_exercise():
    own, other = ("squats - knees in; squats - slow", "squats"), ("squats - knees in", "lunges")
    assert not are_free_text([own, own])
    assert not are_free_text([own, ("Good form.", "squats")])
    assert are_free_text([own, ("Good form.", "squats"), ("Go deeper.", "squats")])
    assert are_free_text([other, other, own])
    assert are_free_text([("Knees in; squats - slow", "squats")])  # named, but not first


@pytest.mark.parametrize(
    ("text", "least"),
    [
        ("squats - knees in", 4),
        ("push-ups", 2),
        ("Don't go 12 cm deeper...", 9),
        ("a\n\nb", 3),
        ("snake_case", 2),
        ("", 0),
    ],
)
def test_words_digits_and_punctuation_are_the_least_number_of_tokens(text, least):
    # the expression in Qwen2's tokenizer.json, with which `tokenizers` divides a text before it looks for tokens
    words = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    expression = words + r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    divide = Split(Regex(expression), behavior="isolated")
    assert least_tokens(text) == len(divide.pre_tokenize_str(text)) == least
