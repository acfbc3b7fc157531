"""Words in messages."""

import pytest

from skfeat.utils._checks import listed


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ("a", "a"),
        ("ab", "a or b"),
        ("abc", "a, b or c"),
        (iter("abcd"), "a, b, c or d"),
    ],
)
def test_words_are_joined_as_in_a_sentence(words, sentence):
    assert listed(words, "or") == sentence
