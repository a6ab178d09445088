"""Singular and plural in messages."""

import pytest

from mobilevideogpt.wording import agree, counted


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 clips that are here"),
        (1, "1 clip that is here"),
        (2, "2 clips that are here"),
        (24000, "24,000 clips that are here"),
    ],
)
def test_noun_and_verb_agree_with_the_number(count, text):
    assert counted(count, "clip{s} that {is|are} here") == text


def test_words_of_any_plural_and_text_without_forms_are_kept():
    assert [agree(n, "entr{y|ies} of {count: 1}") for n in (1, 2)] == ["entry of {count: 1}", "entries of {count: 1}"]
