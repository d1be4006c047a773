"""Scrapbook scenes are what they say they are; drawn from cut-outs made here, so nothing is fetched."""

import random

import numpy as np
import pytest
from PIL import Image

from foveal.errors import SourceError
from foveal.scrapbook import Album, Settings, compose, panels, sources, themes
from foveal.scrapbook.album import Cutout, Look, looks
from foveal.scrapbook.colours import COLOURS, seen_colour, treat
from foveal.scrapbook.scene import GRID, SIDE
from foveal.scrapbook.truth import (
    a,
    absents,
    capital,
    caption,
    counts,
    fact,
    fact_of,
    listed,
    natural,
    places,
    plural,
    related,
    relations,
)
from scrapbook.conftest import SHADES

NOUNS = [*SHADES, "drum", "umbrella", "key", "violin"]


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


# --- what the truth adds -------------------------------------------------------------------------------------------


def test_text_is_told_word_for_word_and_asked_about(album):
    pages = [compose(album, seed, settings=Settings(text=1, chart=0, table=0)) for seed in range(60)]
    kinds = {t.kind for p in pages for t in p.scene.texts}
    assert kinds == {"sign", "caption", "tag"}
    for page in pages:
        for text in page.scene.texts:
            made = fact_of("ocr", page.scene, random.Random(1), NOUNS)
            assert made.answer == f'It says "{text.words}".'
            left, top, right, bottom = (int(v * SIDE) for v in text.box)
            board = np.asarray(page.picture, dtype=int)[top:bottom, left:right].reshape(-1, 3)
            near = np.abs(board - COLOURS[text.colour]).max(1) < 8
            assert near.mean() > 0.4, page.scene.seed


def test_held_pictures_have_words_and_fonts_of_their_own():
    assert not set(panels.FONTS["train"]) & set(panels.FONTS["held"])
    train, held = panels._of(panels.WORDS, False), panels._of(panels.WORDS, True)
    assert set(train) < set(held)


def test_bars_are_as_high_as_the_truth_says(album):
    found = 0
    for seed in range(60):
        page = compose(album, seed, settings=Settings(text=0, table=0, chart=1))
        chart = page.scene.chart
        if chart.kind != "bar" or len(set(chart.colours)) < len(chart.colours):
            continue
        pixels = np.asarray(page.picture.crop((0, 0, SIDE, int(chart.box[3] * SIDE))), dtype=int)
        heights = [int((np.abs(pixels - COLOURS[c]).max(2) == 0).sum(0).max()) for c in chart.colours]
        order = sorted(range(len(heights)), key=heights.__getitem__)
        assert order == sorted(range(len(heights)), key=chart.values.__getitem__), seed
        found += 1
    assert found > 5


def test_pies_are_whole(album):
    charts = [compose(album, seed, settings=Settings(chart=1, text=0, table=0)).scene.chart for seed in range(60)]
    pies = [c for c in charts if c.kind == "pie"]
    assert pies
    assert all(sum(c.values) == 100 and len(set(c.values)) == len(c.values) for c in pies)


def test_nothing_is_covered_beyond_recognition(album):
    scenes = [compose(album, seed, settings=Settings(occlusion=1)).scene for seed in range(200)]
    hidden = [t.occluded for s in scenes for t in s.things]
    assert max(hidden) <= 0.35
    assert sum(h > 0.05 for h in hidden) > 20


def test_covered_pixels_are_counted(album):
    for seed in range(160):
        page = compose(album, seed, settings=Settings(objects=(0, 1), occlusion=1, text=0, chart=0, table=0, treated=0))
        under, over = page.scene.things
        if under.occluded < 0.1 or under.noun == over.noun or page.scene.ground != "photo":
            continue
        left, top, right, bottom = (round(v * SIDE) for v in under.box)
        seen = np.asarray(page.picture, dtype=int)[top:bottom, left:right]
        share = (np.abs(seen - SHADES[over.noun]).max(2) < 45).mean()
        assert abs(share - under.occluded) < 0.12, (seed, share, under.occluded)


def test_relations_hold_in_the_boxes(scenes):
    found = 0
    for scene in scenes:
        for r in relations(scene):
            one, other = scene.things[r.subject], scene.things[r.object]
            assert one.x < other.x - 0.1 if r.kind == "left of" else one.y < other.y - 0.1
            found += 1
    assert found > 300


def test_relation_answers_are_the_only_ones(scenes):
    for i, scene in enumerate(scenes):
        made = fact_of("relation", scene, random.Random(i), NOUNS)
        if made is None or made.answer.startswith(("Yes", "No")):
            continue
        beside = made.question.rstrip("?.").split(" the ")[-1]
        kind = next(k for k in ("left", "right", "above", "below") if k in made.question)
        other = next(t for t in scene.things if t.noun == beside)
        there = [t for t in scene.things if t is not other and any(k.startswith(kind) for k in related(t, other))]
        assert [made.answer] == [f"{capital(a(t.noun))}." for t in there]


def test_absent_nouns_come_in_three_kinds(scenes):
    nouns = sorted({n for of in themes.THEMES.values() for n in of})
    for scene in scenes[:60]:
        there = {t.noun for t in scene.things}
        for kind in ("random", "popular", "adversarial"):
            picked = absents(scene, nouns, kind, 5)
            assert len(picked) == 5
            assert not there & set(picked)
            assert not any(themes.like(n) & there for n in picked)
        popular = absents(scene, nouns, "popular", 5)
        often = themes.frequency(tuple(nouns))
        assert min(often[n] for n in popular) > 1.3 * sum(often.values()) / len(often)
    sheep = next(s for s in scenes if {t.noun for t in s.things} == {"sheep"})
    assert set(absents(sheep, nouns, "adversarial", 3)) <= set(themes.THEMES["farm"])


def test_nouns_of_a_theme_are_seen_together():
    nouns = tuple(sorted({n for of in themes.THEMES.values() for n in of}))
    rng = random.Random(0)
    drawn = [themes.draw(nouns, 3, rng) for _ in range(20000)]
    share = sum(n in themes.THEMES[theme] for theme, of in drawn for n in of) / sum(len(of) for _, of in drawn)
    assert 0.68 < share < 0.8
    together = sum({"cow", "horse"} <= set(of) for _, of in drawn)
    assert together > 3 * sum({"cow", "guitar"} <= set(of) for _, of in drawn)


def test_hard_split_keeps_classes_apart(album):
    more = [Cutout(Look(n, "made", f"{n}.png", 0, "train"), c.pixels, "") for n in NOUNS[5:] for c in album.cutouts[:1]]
    album = Album(album.cutouts + tuple(more), album.grounds)
    apart = {n for n in NOUNS if themes.set_apart(n)}
    assert apart and apart < set(NOUNS)
    for classes, allowed in (("seen", set(NOUNS) - apart), ("unseen", apart)):
        drawn = {t.noun for s in range(80) for t in compose(album, s, "train", Settings(classes=classes)).scene.things}
        assert drawn and drawn <= allowed


def test_counts_reach_five(scenes):
    assert max(n for s in scenes for n in counts(s).values()) == 5


def test_treated_colours_are_measured():
    red = Image.new("RGBA", (60, 60), (205, 35, 35, 255))
    assert seen_colour(red) == "red"
    made, how = treat(red, random.Random(3))
    assert how in ("grey", "tinted", "recoloured")
    assert seen_colour(made) != "red" or how == "tinted"
    assert {seen_colour(Image.new("RGBA", (40, 40), (*rgb, 255))) for rgb in COLOURS.values()} == set(COLOURS)
    assert seen_colour(Image.new("RGBA", (40, 40), (160, 200, 40, 255))) == ""
