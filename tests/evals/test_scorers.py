"""POPE, CHAIR, exact answers, consistency and the arena, against figures worked out by hand."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evals.pictures import shot, shots
from foveal.evals import arena, chair, consistency, exact, following, pope
from foveal.evals.answer import Answer, Question, Shot
from foveal.evals.scored import Scored
from foveal.evals.stats import estimate
from foveal.scrapbook.claims import covers
from foveal.scrapbook.themes import like
from foveal.scrapbook.truth import MAKERS, description, fact_of
from foveal.scrapbook.writer import complied
from scrapbook.scenes import NOUNS, any_scene, drawn_scene, row


def figure(scored: Scored, name: str) -> float:
    return next(m.value for m in scored.measures if m.name == name)


def figures(scored: Scored) -> dict[str, float]:
    return {m.name: round(m.value, 4) for m in scored.measures}


# --- POPE ----------------------------------------------------------------------------------------------------------

SET = shots(
    ("cat", "ball"), ("cat", "ball"), ("cat", "key"), ("cat",), ("pizza", "key"), ("pizza", "guitar", "hat", "key")
)
"""Seen: cat 4, key 3, ball 2, pizza 2, guitar 1, hat 1."""


def negatives(kind: str, of: Shot) -> set[str]:
    asked = pope.questions(SET)
    return {q.noun for q in asked if q.kind == kind and q.answer == "No" and q.shot is of}


def test_popular_negatives_are_the_most_frequent_that_are_absent() -> None:
    assert negatives("popular", SET[0]) == {"key", "pizza"}  # key 3, pizza 2
    assert negatives("popular", SET[3]) == {"key"}
    assert negatives("popular", SET[4]) == {"cat", "ball"}


def test_adversarial_negatives_come_with_what_is_there() -> None:
    assert negatives("adversarial", SET[3]) == {"ball"}  # cat: ball 2, key 1
    assert negatives("adversarial", SET[2]) == {"ball", "pizza"}  # cat: ball 2; key: pizza 2


def test_half_yes_half_no_in_every_kind() -> None:
    asked = pope.questions(SET)
    for kind in pope.KINDS:
        assert Counter(q.answer for q in asked if q.kind == kind) == {"Yes": 11, "No": 11}  # the last lacks a negative
    many = pope.questions([*SET, *shots(("cow", "pig", "dog", "goat", "horse"))])
    assert max(Counter((q.shot.image.digest, q.kind) for q in many).values()) == 2 * pope.MOST


def test_positives_are_asked_once() -> None:
    asked = pope.questions(SET)
    assert len({q.record.id for q in asked if q.answer == "Yes"}) == 11


def test_seeds_change_what_is_drawn_and_nothing_else_does() -> None:
    first, again, other = (
        [(q.noun, q.kind) for q in pope.questions(SET, s) if q.answer == "No" and q.kind == "random"] for s in (0, 0, 1)
    )
    assert first == again != other


@given(st.lists(st.integers(0, 60), min_size=2, max_size=12, unique=True))
def test_no_negative_may_pass_for_what_is_there(seeds: list[int]) -> None:
    for q in pope.questions([shot(drawn_scene(s), str(s)) for s in seeds]):
        there = {t.noun for t in q.shot.scene.things}
        if q.answer == "Yes":
            assert q.noun in there
        else:
            assert not (like(q.noun) | covers(q.noun)) & there
            assert all(q.noun not in covers(n) | like(n) for n in there)


def said(questions: list[Question], words: dict[str, str]) -> dict[str, Answer]:
    """Answer by the truth: `words` says what to a question whose answer is "Yes", "No"."""
    return {q.record.id: Answer(words[q.answer]) for q in questions if q.answer in words}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ({"Yes": "Yes", "No": "No"}, (1.0, 1.0, 1.0, 1.0, 0.5)),
        ({"Yes": "No", "No": "Yes"}, (0.0, 0.0, 0.0, 0.0, 0.5)),
        ({"Yes": "Yes", "No": "Yes"}, (0.5, 0.5, 1.0, 0.6667, 1.0)),
        ({"Yes": "Yes"}, (0.5, 1.0, 1.0, 1.0, 0.5)),  # an unanswered question is wrong and no yes
    ],
)
def test_pope_by_hand(words: dict[str, str], expected: tuple[float, ...]) -> None:
    asked = pope.questions(SET)
    found = figures(pope.score(asked, said(asked, words)))
    for kind in pope.KINDS:
        told = tuple(found[f"pope/{kind}/{f}"] for f in ("accuracy", "precision", "recall", "f1", "yes"))
        assert told == expected
    assert found["pope/f1"] == expected[3]
    assert "pope/ece" not in found


def test_pope_of_published_counts() -> None:
    """LLaVA-1.5-7B on random negatives: TP 1360, FP 172, TN 1328, FN 140."""
    counts = [("Yes", "Yes", 1360), ("No", "Yes", 172), ("No", "No", 1328), ("Yes", "No", 140)]
    asked, answers = [], {}
    for truth, answer, n in counts:
        for i in range(n):
            of = shot(row("cat"), f"{truth}{answer}{i}")
            q = Question(pope.ask(of, "Is there a cat?", truth, ("Yes", "No")), of, "random", truth, "cat")
            asked.append(q)
            answers[q.record.id] = Answer(answer)
    found = figures(pope.score(asked, answers))
    told = [round(100 * found[f"pope/random/{f}"], 2) for f in ("accuracy", "precision", "recall", "f1", "yes")]
    assert told == [89.6, 88.77, 90.67, 89.71, 51.07]


def test_pope_knows_how_sure_a_model_is() -> None:
    asked = pope.questions(SET)
    sure = {q.record.id: Answer(q.answer, 1.0 if q.answer == "Yes" else 0.0) for q in asked}
    found = figures(pope.score(asked, sure))
    assert (found["pope/ece"], found["pope/brier"]) == (0.0, 0.0)


# --- CHAIR ---------------------------------------------------------------------------------------------------------


def test_chair_by_hand() -> None:
    asked = chair.questions(shots(("cat", "ball"), ("cat", "key"), ("hat",)))
    words = ["A cat and a dog. The dog is big.", "A cat on the left and a key on the right.", ""]
    answers = {q.record.id: Answer(w) for q, w in zip(asked, words, strict=True) if w}
    found = figures(chair.score(asked, answers))
    assert found["chair/chair_i"] == 0.4  # dog, dog of cat, dog, dog, cat, key
    assert found["chair/chair_s"] == round(1 / 3, 4)
    assert found["chair/recall"] == 0.6  # cat, cat, key of five
    assert found["chair/claims"] == round(5 / 6, 4)  # five hold: cat; cat, key and their places; dog does not
    assert found["chair/words"] == round((9 + 11 + 0) / 3, 4)


def test_a_true_description_has_no_chair() -> None:
    pictures = [shot(drawn_scene(s), str(s)) for s in range(40)]
    asked = chair.questions(pictures)
    answers = {q.record.id: Answer(description(q.shot.scene, random.Random(i))) for i, q in enumerate(asked)}
    scored = chair.score(asked, answers)
    found = figures(scored)
    assert (found["chair/chair_i"], found["chair/chair_s"], found["chair/recall"], found["chair/claims"]) == (
        0,
        0,
        1,
        1,
    )
    assert estimate(scored.measures[1]).high > 0


def test_saying_nothing_is_not_rewarded_with_recall() -> None:
    asked = chair.questions(SET)
    found = chair.score(asked, {})
    assert figure(found, "chair/recall") == 0
    assert figure(found, "chair/chair_s") == 0


# --- exact ---------------------------------------------------------------------------------------------------------

MATCHES = [
    ("count", "How many cats are there?", "Two.", "There are 2 cats.", True),
    ("count", "How many cats are there?", "Two.", "two or three", False),
    ("count", "How many cats are there?", "Two.", "", False),
    ("count", "Are there exactly two cats in the picture?", "No, there are three cats.", "No.", True),
    ("colour", "What color is the cat?", "Gray.", "The cat is grey.", True),
    ("colour", "What color is the cat?", "Gray.", "gray and red", False),
    ("colour", "What color is the orange?", "Orange.", "It is orange.", True),
    ("place", "Where is the cat?", "On the left.", "The cat is on the left side of the picture.", True),
    ("place", "Where is the cat?", "At the top left.", "top left", True),
    ("place", "Where is the cat?", "At the top left.", "On the left.", False),
    ("place", "Is the cat on the left?", "No, the cat is on the right.", "No, the cat is on the right.", True),
    ("object", "What is on the left?", "A cat.", "It is a kitten.", True),
    ("object", "What is on the left?", "A cat.", "cat", True),
    ("object", "What is on the left?", "A cat.", "A cat and a dog.", False),
    ("relation", "What is above the dog?", "A cat.", "A cat is above the dog.", True),
    ("relation", "What is above the dog?", "A cat.", "A fox is above the dog.", False),
    ("size", "Which is bigger, the cat or the dog?", "The dog.", "The dog is bigger than the cat.", True),
    ("size", "Which is bigger, the cat or the dog?", "The dog.", "The cat.", False),
    ("existence", "Is there a cat here?", "Yes, there is a cat.", "Yes.", True),
    ("existence", "Is there a cat here?", "No, there is no cat.", "There is no cat.", True),
    ("existence", "Is there a cat here?", "No, there is no cat.", "I cannot tell.", False),
    ("existence", "Is there a cat here?", "Yes, there is a cat.", "Yes and no.", False),
    ("text", "What does the sign say?", 'It says "Good morning".', "GOOD MORNING", True),
    ("text", "What does the sign say?", 'It says "$12".', "It says 12.", True),
    ("text", "What does the sign say?", 'It says "OPEN".', "OPENING", False),
    ("chart", "What is the value of Mon in the chart?", "12%.", "12", True),
    ("chart", "What is the value of Mon in the chart?", "12.", "It is 120.", False),
    ("chart", "Which value in the chart is the highest?", "Mon, with 12.", "Mon", True),
    ("chart", "What is the highest value in the chart?", "Mon, with 12.", "12", True),
    ("chart", "Which value in the chart is the highest?", "Mon, with 12.", "Tue, with 12.", False),
    ("table", 'What is the value of "Price" for Ann in the table?', "7.", "seven", True),
    ("background", "What is the background like?", "It is a photographic background.", "A photo.", True),
    ("background", "Which color does the background have?", "Red.", "It is a plain red background.", True),
    ("background", "Which color does the background have?", "Red.", "Blue.", False),
]


@pytest.mark.parametrize(("kind", "question", "reference", "words", "right"), MATCHES)
def test_what_counts_as_the_same_answer(kind: str, question: str, reference: str, words: str, right: bool) -> None:
    assert exact.matches(question, reference, words, kind) is right


@given(st.integers(0, 10**6), st.sampled_from((any_scene, drawn_scene)))
def test_the_reference_is_right(seed: int, draw: object) -> None:
    scene = draw(seed)  # type: ignore[operator]
    for topic, kind in exact.KINDS.items():
        if fact := fact_of(topic, scene, random.Random(seed), NOUNS):
            assert exact.matches(fact.question, fact.answer, fact.answer, kind), fact
            assert not exact.matches(fact.question, fact.answer, "I cannot tell.", kind)
    assert len(MAKERS) >= len(exact.KINDS)


def test_exact_by_hand() -> None:
    asked = exact.questions(SET[:5])
    assert {q.kind for q in asked} >= {"existence", "count", "place", "object", "relation"}
    answers = {q.record.id: Answer(q.answer if q.kind == "count" else "Purple.") for q in asked}
    found = figures(exact.score(asked, answers))
    assert found["exact/count"] == 1.0
    assert found["exact/place"] == 0.0
    assert found["exact/all"] == round(sum(q.kind == "count" for q in asked) / len(asked), 4)


# --- consistency and arena -----------------------------------------------------------------------------------------


def test_consistency_by_hand() -> None:
    of = SET[0]
    q = Question(exact.ask(of, "How many cats are there?", "One."), of, "count", "One.")
    answers = {q.record.id: Answer("One.", samples=("one", "1", "Two.", "There is one cat."))}
    found = figures(consistency.score([q], answers))
    assert (found["consistency/samples"], found["consistency/greedy"]) == (0.5, 0.75)  # 3 of 6 pairs; 3 of 4


def test_the_arena_prefers_what_is_true_and_whole() -> None:
    (q,) = arena.questions(shots(("cat", "ball", "key")))
    whole, half, wrong = "A cat, a ball and a key.", "A cat and a ball.", "A cat, a ball, a key and two dogs."
    assert arena.by_truth(q, whole, half) == arena.by_truth(q, whole, wrong) == 1.0
    assert arena.by_truth(q, half, whole) == 0.0
    assert arena.by_truth(q, whole, "a key, a ball, a cat") == 0.5
    assert arena.by_truth(q, "", whole) == 0.0


def test_the_arena_is_fair() -> None:
    asked = arena.questions([shot(drawn_scene(s), str(s)) for s in range(30)])
    rng = random.Random(0)
    one, other = (
        {q.record.id: Answer(description(drawn_scene(rng.randrange(60)), rng)) for q in asked} for _ in range(2)
    )
    there, back = arena.score(asked, one, other), arena.score(asked, other, one)
    for name in ("arena/win", "arena/win_lc"):
        assert figure(there, name) + figure(back, name) == pytest.approx(1)
    assert figure(arena.score(asked, one, one), "arena/tie") == 1.0


# --- following -----------------------------------------------------------------------------------------------------


def test_following_is_checked_by_code() -> None:
    pictures = [shot(drawn_scene(seed), f"{seed:03}.jpg") for seed in range(40)]
    asked = following.questions(pictures)
    assert [q.record for q in asked] == [q.record for q in following.questions(pictures)]
    assert {q.kind for q in asked} == set(following.ALIKE)
    assert all(q.wants is not None and q.text.endswith(q.wants.says) for q in asked)

    def kept(say: Callable[[Question], str]) -> dict[str, float]:
        return figures(following.score(asked, {q.record.id: Answer(say(q)) for q in asked}))

    obeying = kept(lambda q: complied(description(q.shot.scene, random.Random(1), detail=True), [q.wants.says]))  # type: ignore[union-attr]
    plain = kept(lambda q: description(q.shot.scene, random.Random(1), detail=True))
    assert obeying["following/kept"] > plain["following/kept"] + 0.2
    assert obeying["following/format"] > 0.9 > 0.1 > plain["following/format"]
    assert set(figures(following.score(asked, {})).values()) == {0.0}
    by_family = [sum(q.kind == f for q in asked) * plain[f"following/{f}"] for f in following.ALIKE]
    assert sum(by_family) / len(asked) == pytest.approx(plain["following/kept"], abs=1e-3)
