"""Scrapbook scenes are what they say they are; drawn from cut-outs made here, so nothing is fetched."""

import random

import numpy as np
import pytest
from PIL import Image

from foveal.errors import SourceError
from foveal.scrapbook import Album, Settings, compose, sources
from foveal.scrapbook.scene import GRID, SIDE, Cutout, Look, looks
from foveal.scrapbook.truth import caption, counts, fact, listed, natural, places, plural

SHADES = {
    "apple": (200, 30, 30),
    "cat": (30, 30, 30),
    "boat": (30, 60, 200),
    "fox": (230, 120, 20),
    "sheep": (240, 240, 240),
}
NOUNS = [*SHADES, "drum", "umbrella", "key", "violin"]


@pytest.fixture(scope="module")
def album():
    cutouts = [
        Cutout(Look(noun, "made", f"{noun}{k}.png", k, split), Image.new("RGBA", (90, 60 + 40 * k), (*rgb, 255)), "")
        for noun, rgb in SHADES.items()
        for k, split in enumerate(("train", "train", "held"))
    ]
    return Album(tuple(cutouts), (Image.new("RGB", (400, 300), (90, 120, 90)),))


@pytest.fixture(scope="module")
def scenes(album):
    return [compose(album, seed).scene for seed in range(300)]


def test_same_seed_same_page(album):
    one, two = compose(album, 5), compose(album, 5)
    assert one.scene == two.scene
    assert one.picture.tobytes() == two.picture.tobytes()
    assert compose(album, 6).scene != one.scene


def test_objects_stand_where_the_truth_says(album):
    plain = Settings(text=0, treated=0)
    for seed in range(60):
        page = compose(album, seed, settings=plain)
        pixels = np.asarray(page.picture, dtype=int)
        for thing in (t for t in page.scene.things if not t.occluded):
            x, y = int(thing.x * SIDE), int(thing.y * SIDE)
            assert np.abs(pixels[y, x] - SHADES[thing.noun]).max() < 45, (seed, thing)


def test_layout_orders_things(scenes):
    for scene in scenes:
        if scene.layout in ("row", "column"):
            along = [t.x if scene.layout == "row" else t.y for t in scene.things]
            assert along == sorted(along)
        assert len(places(scene)) == len(scene.things) <= 5
    assert {s.layout for s in scenes} == {"one", "row", "column", "corners", "scattered"}
    assert {len(s.things) for s in scenes} == {1, 2, 3, 4, 5}


def test_places_are_where_things_are(scenes):
    for scene in (s for s in scenes if s.layout in ("corners", "scattered")):
        for thing in scene.things:
            words = thing.place.split()
            assert ("left" in words) == (thing.x < 0.36), (scene.seed, thing)
            assert ("right" in words) == (thing.x > 0.64), (scene.seed, thing)
            assert ("top" in words) == (thing.y < 0.36), (scene.seed, thing)
            assert ("bottom" in words) == (thing.y > 0.64), (scene.seed, thing)


def test_cells_name_things(album):
    page = compose(album, 3)
    assert page.cells.shape == (GRID * GRID,)
    assert set(page.cells.tolist()) <= {-1, *range(len(page.scene.things))}
    assert (page.cells >= 0).any()


def test_splits_do_not_mix(album):
    held = {t.file for seed in range(60) for t in compose(album, seed, "held").scene.things}
    trained = {t.file for seed in range(60) for t in compose(album, seed, "train").scene.things}
    assert held
    assert not held & trained


def test_counts_are_true(scenes):
    asked = 0
    for i, scene in enumerate(scenes):
        made = fact(scene, random.Random(i), NOUNS)
        if made.topic == "count" and made.question.startswith("How many") and "s are there?" in made.question:
            noun = next((n for n in SHADES if f" {plural(n)} " in made.question), None)
            number = counts(scene)[noun] if noun else len(scene.things)
            assert made.answer == ("One.", "Two.", "Three.", "Four.", "Five.")[number - 1]
            asked += 1
    assert asked


def test_yes_and_no_are_true(scenes):
    said = set()
    for i, scene in enumerate(scenes):
        made = fact(scene, random.Random(i), NOUNS)
        if made.topic == "exists":
            noun = next(n for n in NOUNS if f" {n}" in made.question)
            assert made.answer.startswith("Yes") == (noun in counts(scene))
            said.add(made.answer[:3])
    assert said == {"Yes", "No,"}


def test_captions_name_only_what_is_there(scenes):
    for i, scene in enumerate(scenes):
        text = caption(scene, random.Random(i))
        for noun in SHADES:
            assert (f" {noun}" in f" {text.lower()}" or plural(noun) in text) <= (noun in counts(scene)), text
        assert len(text.split(". ")) <= 5


def test_natural_questions_are_mostly_about_what_is_there(scenes):
    nos = sum(natural(s, random.Random(i), NOUNS).answer.startswith("No,") for i, s in enumerate(scenes))
    assert nos < 0.15 * len(scenes)


def test_lists_read_well():
    assert (plural("mouse"), plural("cherry"), plural("fox"), plural("sheep")) == ("mice", "cherries", "foxes", "sheep")


def test_listed_counts(scenes):
    assert all(listed(s) for s in scenes)


def test_reviewed_looks():
    rows = looks()
    nouns = {r.noun for r in rows}
    assert len(nouns) >= 60
    for noun in nouns:
        of = [r for r in rows if r.noun == noun]
        assert len({r.look for r in of if r.split == "train"}) >= 2
        assert {r.look for r in of if r.split == "held"}
        assert not {r.look for r in of if r.split == "train"} & {r.look for r in of if r.split == "held"}


def test_missing_client_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setenv("FOVEAL_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SourceError, match="npm, which is not on this machine"):
        sources.fetch("fluent")


def test_wrong_archive_is_refused(tmp_path):
    wrong = tmp_path / "x.tgz"
    wrong.write_bytes(b"not it")
    with pytest.raises(SourceError, match="not the archive"):
        sources._check(wrong, sources.SOURCES["open"])
