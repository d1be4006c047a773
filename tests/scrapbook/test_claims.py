"""Claims of free text: a table of sentences, and whatever truth.py says is found and true."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from foveal.scrapbook.claims import Claim, check, claims, covers, judged, objects, synonyms
from foveal.scrapbook.parts import COLOURS, Scene
from foveal.scrapbook.themes import like
from foveal.scrapbook.truth import MAKERS, a, caption, counts, description, plural
from scrapbook.scenes import NOUNS, any_scene, drawn_scene, row, thing

TABLE: list[tuple[str, set[str]]] = [
    ("A cat.", {"object cat"}),
    ("A cat and two dogs.", {"object cat", "object dog", "count dog 2"}),
    ("Two kittens and a puppy", {"object cat", "count cat 2", "object dog"}),
    ("There are 3 mice.", {"object mouse", "count mouse 3"}),
    ("two snowmen", {"object snowman", "count snowman 2"}),
    ("A single T-shirt", {"object shirt", "count shirt 1"}),
    ("a couple of cherries", {"object cherry", "count cherry 2"}),
    ("a pair of scissors", {"object scissors"}),
    ("a pair of orange scissors", {"object scissors", "colour scissors orange"}),
    ("a pair of cats", {"object cat", "count cat 2"}),
    ("two pairs of scissors", {"object scissors", "count scissors 2"}),
    ("There are two objects in the picture.", {"count object 2"}),
    ("There are no other objects.", set()),
    ("one cat on the left and one cat on the right",
     {"object cat", "count cat 2", "place cat left", "place cat right"}),
    # who is not there, and who only looks so
    ("There is no dog in the picture.", {"absent dog"}),
    ("No, there is no dog.", {"absent dog"}),
    ("No, the dog is on the right.", {"object dog", "place dog right"}),
    ("Yes, there is a dog.", {"object dog"}),
    ("I don't see any dogs or cats.", {"absent dog", "absent cat"}),
    ("There are no dogs, cats or sheep.", {"absent dog", "absent cat", "absent sheep"}),
    ("There isn't a dog, but there is a cat.", {"absent dog", "object cat"}),
    ("It is not a bird, it is a plane.", {"absent bird", "object airplane"}),
    ("neither a cat nor a dog", {"absent cat", "absent dog"}),
    ("a snowman without a hat", {"object snowman", "absent hat"}),
    ("a fox instead of a dog", {"object fox", "absent dog"}),
    ("no cat on the left", set()),
    ("The cat is not next to the dog.", {"object cat", "object dog"}),
    ("The cat is not on the left.", {"object cat"}),
    ("Is there a dog?", set()),
    ("Is there a dog? There is a cat.", {"object cat"}),
    ("How many cats are there?\nTwo cats.", {"object cat", "count cat 2"}),
    # names
    ("a hot dog", set()),
    ("a teddy bear", set()),
    ("an apple tree", {"object tree"}),
    ("a fire truck", {"object truck"}),
    ("a pineapple", {"object pineapple"}),
    ("a bird in a vehicle", {"object bird", "object vehicle"}),
    ("a man with a bottle", {"object person", "object bottle"}),
    ("The airplane's here.", {"object airplane"}),
    # orange, the fruit and the colour
    ("an orange", {"object orange"}),
    ("an orange cat", {"object cat", "colour cat orange"}),
    ("The orange is orange.", {"object orange", "colour orange orange"}),
    ("an orange and a cat", {"object orange", "object cat"}),
    ("Orange.", set()),
    ("an orange background", {"ground orange"}),
    ("an orange tree", {"object tree"}),  # one that bears oranges, for all that is told
    ("three oranges", {"object orange", "count orange 3"}),
    # colours and grounds
    ("a big red apple", {"object apple", "colour apple red"}),
    ("a red and white cat", {"object cat"}),
    ("The cat is grey.", {"object cat", "colour cat gray"}),
    ("The color of the cat is black.", {"object cat", "colour cat black"}),
    ("The cat is red and on the left.", {"object cat", "colour cat red", "place cat left"}),
    ("two red apples and a green apple",
     {"object apple", "count red apple 2", "colour apple green"}),
    ("a cat on a plain blue background", {"object cat", "ground blue"}),
    ("It has a photographic background.", {"ground photo"}),
    ("The background is a gradient.", {"ground gradient"}),
    # places
    ("a cat on the left, a dog in the middle and a cat on the right",
     {"object cat", "object dog", "place cat left", "place dog middle", "place cat right"}),
    ("On the left is a cat and on the right is a dog.",
     {"object cat", "object dog", "place cat left", "place dog right"}),
    ("On the left, there is a cat.", {"object cat", "place cat left"}),
    ("On the left a cat, in the middle a dog and on the right a fox.",
     {"object cat", "object dog", "object fox", "place cat left", "place dog middle", "place fox right"}),
    ("A cat, on the left, and a dog.", {"object cat", "object dog", "place cat left"}),
    ("The cat sits in the top-left corner of the image.", {"object cat", "place cat top left"}),
    ("a red cat at the bottom", {"object cat", "colour cat red", "place red cat bottom"}),
    ("a cat in the middle of a field", {"object cat"}),
    # relations
    ("The cat is to the left of the dog.", {"object cat", "object dog", "relation dog cat left"}),
    ("a kitten on the left side of the dog", {"object cat", "object dog", "relation dog cat left"}),
    ("To the left of the cat, there is a dog.", {"object cat", "object dog", "relation cat dog left"}),
    ("Above the cat is a dog.", {"object cat", "object dog", "relation cat dog above"}),
    ("a dog and, above it, a star", {"object dog", "object star", "relation dog star above"}),
    ("The cat is bigger than the mouse.", {"object cat", "object mouse", "relation mouse cat bigger"}),
    ("A cat sits next to a dog.", {"object cat", "object dog"}),
    # what is written and drawn
    ('A sign at the top that says "NO APPLE!" and a cat.', {"text NO APPLE!", "object cat"}),
    ("The sign reads OPEN.", {"text OPEN"}),
    ('a cat on the left and a pie chart of "Sales" at the top',
     {"object cat", "place cat left", "chart pie", "text Sales"}),
    ('At the top there is a bar chart of "Votes": 12 for Ann and 3% for Ben.',
     {"chart bar", "text Votes", "value ann 12", "value ben 3"}),
    ("a table with two rows", {"table"}),
    ("there is no chart", set()),
    ("", set()),
    ("?!. ,,, 1. 2.", set()),
]  # fmt: skip


@pytest.mark.parametrize(("text", "said"), TABLE, ids=[t for t, _ in TABLE])
def test_what_a_text_claims(text: str, said: set[str]) -> None:
    assert {str(c) for c in claims(text)} == said


SCENE = Scene(0, "row", "red", (thing("cat", 0.2, colour="gray"), thing("rooster", 0.8), thing("cat", 0.5, side=0.3)))
CHECKS: list[tuple[str, bool | None]] = [
    ("a cat", True), ("a dog", False), ("no dog", True), ("no cat", False),
    ("two cats", True), ("three cats", False), ("three objects", True), ("three animals", True), ("a bird", True),
    ("a chicken", True), ("a cat on the left", True), ("a rooster on the left", False), ("a gray cat", True),
    ("a red cat", None), ("a red cat on the right", False), ("a black rooster", None), ("one gray cat", True),
    ("two gray cats", None), ("three gray cats", False), ("a plain red background", True),
    ("a blue background", False), ("a photographic background", False),
    ("the cat is to the left of the rooster", True), ("the rooster is to the left of the cat", False),
    ("the cat is bigger than the rooster", True), ("the rooster is bigger than the cat", False),
]  # fmt: skip


@pytest.mark.parametrize(("text", "true"), CHECKS, ids=[t for t, _ in CHECKS])
def test_what_is_true(text: str, true: bool | None) -> None:
    *others, last = judged(text, SCENE)
    assert last.true is true
    assert all(j.true for j in others) or not true


def test_a_rooster_is_a_chicken_but_not_the_other_way_round() -> None:
    assert check(Claim("object", "chicken"), row("rooster"))
    assert not check(Claim("object", "rooster"), row("chicken"))
    assert check(Claim("absent", "chicken"), row("rooster")) is None


def test_an_unnamed_ground_is_left_open() -> None:
    assert check(Claim("ground", "", "green"), row("cat", ground="photo")) is None


def test_every_mention_counts() -> None:
    assert objects("A cat and a dog. The cat is an animal.") == ["cat", "dog", "cat"]


@pytest.mark.parametrize("noun", NOUNS)
def test_every_noun_is_found_alone_and_in_plural(noun: str) -> None:
    assert objects(f"There is {a(noun)}.") == [noun]
    assert objects(f"There are two {plural(noun)} here.") == [noun]


@pytest.mark.parametrize("noun", NOUNS)
def test_every_synonym_is_found(noun: str) -> None:
    for name in synonyms()[noun]:
        assert set(objects(f"I see the {name}.")) <= covers(noun), name
        assert objects(f"I see the {name}."), name


def detailed(scene: Scene, rng: random.Random) -> str:
    return description(scene, rng, detail=True)


@given(
    st.integers(0, 10**6), st.sampled_from((caption, description, detailed)), st.sampled_from((any_scene, drawn_scene))
)
def test_what_truth_says_is_found_and_true(
    seed: int, words: Callable[[Scene, random.Random], str], draw: Callable[[int], Scene]
) -> None:
    scene = draw(seed)
    text = words(scene, random.Random(seed))
    told = judged(text, scene)
    assert [j for j in told if not j.true] == [], text
    assert set(objects(text)) == set(counts(scene))
    assert {j.claim.value for j in told if j.claim.kind == "text"} >= {t.words for t in scene.texts if '"' in text}


@given(st.integers(0, 10**6), st.sampled_from((any_scene, drawn_scene)))
def test_answers_of_truth_are_true(seed: int, draw: Callable[[int], Scene]) -> None:
    scene, rng = draw(seed), random.Random(seed)
    for maker in MAKERS:
        made = maker(scene, rng, NOUNS)
        if made:
            assert [j for j in judged(made.answer, scene) if j.true is False] == [], made


@given(st.integers(0, 10**6))
def test_swapping_a_noun_makes_just_its_claims_false(seed: int) -> None:
    scene, rng = any_scene(seed), random.Random(seed)
    there = {n for t in scene.things for n in (t.noun, *covers(t.noun))}
    old = rng.choice(scene.things).noun
    assume(old not in COLOURS)  # "an orange orange" is not said, "an orange sheep" is
    new = rng.choice([n for n in NOUNS if n not in COLOURS and not covers(n) & there and not like(n) & like(old)])
    orange = any(t.colour == "orange" for t in scene.things if t.noun == old)
    assume(not (orange and "tree" in (old, new)))  # "an orange tree" bears oranges
    things = tuple(replace(t, noun=new) if t.noun == old else t for t in scene.things)
    text, swapped = (description(s, random.Random(seed)) for s in (scene, replace(scene, things=things)))
    before, after = judged(text, scene), judged(swapped, scene)
    assert len(before) == len(after), (text, swapped)
    for was, now in zip(before, after, strict=True):
        if was.claim.noun == old:
            assert (now.claim.noun, now.true) == (new, False), (text, swapped, now)
        else:
            assert now == was, (text, swapped)


@given(st.text(max_size=200))
def test_any_text_can_be_read(text: str) -> None:
    for claim in claims(text):
        check(claim, SCENE)
