"""Which words two answers differ in, and what tokens weigh by it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from foveal.errors import SetupError
from foveal.train.diff import changed, token_weights, weigh

SENTENCE = st.lists(st.sampled_from(["a", "red", "cat", "sits", "on", "the", "mat", ".", "un chat"]), max_size=12).map(
    " ".join
)


def words(text, spans):
    return [text[a:b] for a, b in spans]


@pytest.mark.parametrize(
    ("chosen", "rejected", "ours", "theirs"),
    [
        ("A red cat.", "A blue cat.", ["red"], ["blue"]),
        ("A cat.", "A cat.", [], []),
        ("A cat on a mat.", "A cat.", ["on", "a", "mat"], []),
        ("", "Two dogs", [], ["Two", "dogs"]),
        ("Two cats, one dog", "Two cats and one dog", [","], ["and"]),
        ("It's red", "It's Red", ["red"], ["Red"]),
        ("3 cats", "13 cats", ["3"], ["13"]),
        ("红色的猫", "蓝色的猫", ["红"], ["蓝"]),
        ("x_y", "x_z", ["y"], ["z"]),
    ],
)
def test_words_that_changed(chosen, rejected, ours, theirs):
    a, b = changed(chosen, rejected)
    assert (words(chosen, a), words(rejected, b)) == (ours, theirs)


@given(SENTENCE, SENTENCE)
def test_what_is_left_after_the_changed_words_is_the_same(chosen, rejected):
    def left(text, spans):
        for a, b in reversed(spans):
            text = text[:a] + text[b:]
        return text.split()

    a, b = changed(chosen, rejected)
    assert left(chosen, a) == left(rejected, b)
    assert changed(chosen, chosen) == ([], [])


def test_many_words_alike_are_still_compared():
    """difflib's shortcut for long texts would call every common word changed."""
    long = "the cat and the dog and " * 100
    a, b = changed("Here " + long + "you", "There was " + long + "me")
    assert (len(a), len(b)) == (2, 3)


@pytest.mark.parametrize(
    ("offsets", "expected"),
    [
        ([(0, 1), (1, 5), (5, 9), (9, 10)], [1, 5, 1, 1]),  # " red" holds the changed word
        ([(0, 2), (2, 3), (3, 5), (5, 10)], [1, 5, 5, 1]),  # the word in two tokens
        ([(0, 10)], [5]),
        ([(0, 0), (2, 5), (0, 0)], [1, 5, 1]),  # special tokens lie nowhere
        ([(0, 2), (5, 10)], [1, 1]),
        ([], []),
    ],
)
def test_tokens_that_touch_a_changed_word(offsets, expected):
    assert token_weights(offsets, [(2, 5)]) == expected  # "A red cat."


@given(SENTENCE, SENTENCE, st.integers(1, 4), st.floats(0, 9))
def test_any_cut_into_tokens_marks_the_changed_letters_and_no_others(chosen, rejected, size, gamma):
    offsets = [(i, min(i + size, len(chosen))) for i in range(0, len(chosen), size)]
    spans = changed(chosen, rejected)[0]
    marked = {i for a, b in spans for i in range(a, b)}
    for (a, b), weight in zip(offsets, token_weights(offsets, spans, gamma), strict=True):
        assert weight == (gamma if marked & set(range(a, b)) else 1.0)


def test_a_tokenizer_that_knows_no_places_is_refused():
    with pytest.raises(SetupError, match="fast tokenizer"):
        weigh(object(), "a", "b")


# --- with a tokenizer and tensors -------------------------------------------------------------------------------------


def byte_tokenizer():
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    raw = Tokenizer(models.BPE({c: i for i, c in enumerate(["<|end|>", *letters])}, []))
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="<|end|>")


@pytest.mark.torch
@pytest.mark.filterwarnings("default")
def test_answers_as_a_tokenizer_cuts_them():
    pytest.importorskip("transformers")
    ours, theirs = weigh(byte_tokenizer(), "Ein Bär.<|end|>", "Ein Hund.<|end|>", gamma=3.0)
    assert ours == [1, 1, 1, 1, 3, 3, 3, 3, 1, 1]  # the umlaut is two bytes, both of the changed word
    assert theirs == [1, 1, 1, 1, 3, 3, 3, 3, 1, 1]


@pytest.mark.torch
@pytest.mark.filterwarnings("default")
def test_weights_find_their_tokens_in_a_batch():
    torch = pytest.importorskip("torch")
    from foveal.train.diff import placed

    mask = torch.tensor([[0, 0, 1, 1, 1, 0], [0, 1, 1, 0, 0, 0]])
    out = placed([[1.0, 5.0, 1.0], [5.0, 1.0, 7.0]], mask)
    assert out.tolist() == [[0, 0, 1, 5, 1, 0], [0, 5, 1, 0, 0, 0]]  # the second answer was cut by a length limit
    with pytest.raises(SetupError, match="row 1 has 2 answer tokens but 1 weights"):
        placed([[1.0, 1.0, 1.0], [1.0]], mask)
