"""OmniAlign-V: which pictures are worth it, what each kind is asked, what code checks, and where two models agree."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw

from foveal.errors import RecipeError
from foveal.methods.omnialign.tasks import CREATIONS, LEVELS, TASKS, numbers_in
from foveal.methods.omnialign_select.method import names
from foveal.models.wire import Reply
from foveal.steps.complexity import complexity
from methods.actor import Actor, Pictures, called, dropped, go, made, sees, shown, turns

ASKED = "1. What is it for?\n2. Who made it?"

# --- select --------------------------------------------------------------------------------------------------------


def busy(n: int) -> Image.Image:
    """Draw a picture with n shapes."""
    rng, picture = random.Random(n), Image.new("RGB", (256, 192), "white")
    draw = ImageDraw.Draw(picture)
    for _ in range(n):
        x, y = rng.randrange(220), rng.randrange(160)
        draw.ellipse((x, y, x + 24, y + 24), fill=(rng.randrange(256), rng.randrange(256), rng.randrange(256)))
    return picture


def test_complexity_rises_with_what_goes_on_and_not_with_size() -> None:
    found = [complexity(busy(n))["complexity"] for n in (0, 3, 12, 60)]
    assert found == sorted(found)
    assert 0 <= found[0] < 0.2 < found[-1] <= 1
    large = complexity(busy(60).resize((1024, 768), Image.Resampling.NEAREST))["complexity"]
    assert abs(large - found[-1]) < 0.12


@pytest.mark.parametrize(("text", "wanted"), [
    ("- A cup\n- two cups\n- the Table.", ["cup", "table"]),
    ("dog, grass and a ball", ["dog", "grass", "ball"]),
    ("image\nobjects", []),
    ("1. bus\n2. buses\n3. glass", ["bus", "buse", "glass"]),
    ("I cannot see the picture that you are speaking of", []),
    ("", []),
])  # fmt: skip
def test_labels_are_counted_once(text: str, wanted: list[str]) -> None:
    assert names(text) == wanted


def test_pictures_are_chosen_by_percentile_of_the_pool(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for n in range(10):
        busy(3 * n).save(photos / f"p{n}.png")
    model = Actor(labels=lambda r: "\n".join(f"thing{c}" for c in "abcdefgh"[: 1 + int(shown(r)[:4], 16) % 8]))
    run = go("omnialign-select", photos, tmp_path / "out", model)
    rows = made(run)
    assert len(rows) + sum(dropped(run).values()) == 10
    assert all(row.body is None and row.tags["richness"] == len(row.tags["labels"]) for row in rows)
    assert sum(n for reason, n in dropped(run).items() if reason.startswith("complexity below")) == 3
    before = len(model.asked)
    go("omnialign-select", photos, tmp_path / "out", model, least=0)
    assert len(model.asked) == before  # another threshold pays nothing


# --- the kinds of picture ------------------------------------------------------------------------------------------


def actor(**said: Any) -> Actor:
    pool = dict.fromkeys(("knowledge", "art", "chart", "diagram", "poster"), ASKED)
    pool["inferential"] = "Why is it so?\nWhat comes next?"
    usual = {"kind": "natural", "creation": "Write a poem.", "suits": "1, 3, 5, 7", "enrich": "A longer answer it is.",
             "merge": "It is merged.", "facts": "- It is red", "compare": "5"}  # fmt: skip
    return Actor(**{**pool, **usual, **said})


def test_a_natural_picture_is_asked_everything(pictures: Pictures, tmp_path: Path) -> None:
    model = actor()
    rows = made(go("omnialign", pictures(1), tmp_path / "out", model, follow="never"))
    by = {task: [r for r in rows if r.tags["task"] == task] for task in TASKS}
    assert {task: len(found) for task, found in by.items()} == {
        "knowledge": 2, "inferential": 2, "creation": 1, "detail": 2,
    }  # fmt: skip
    assert [turns(r)[1] for r in by["inferential"]] == ["A longer answer it is."] * 2
    assert {called(r) for r in model.asked if not sees(r)} == {"suits", "enrich"}
    assert all(r.tags["picture_kind"] == "natural" for r in rows)


def test_creative_tasks_are_drawn_from_those_that_suit_at_rising_levels(pictures: Pictures, tmp_path: Path) -> None:
    ideas = iter(("Write a poem.", "Write a letter.", "Write a song."))
    model = actor(creation=lambda r: next(ideas))
    rows = made(go("omnialign", pictures(1), tmp_path / "out", model, tasks=("creation",)))
    assert [r.tags["level"] for r in rows] == list(LEVELS)
    assert {r.tags["type"] for r in rows} < {CREATIONS[n] for n in (0, 2, 4, 6)}


def test_an_enriched_answer_that_no_longer_fits_goes_back(pictures: Pictures, tmp_path: Path) -> None:
    model = actor(answer_good="3")
    rows = made(go("omnialign", pictures(1), tmp_path / "out", model, tasks=("inferential",)))
    assert [(turns(r)[1], r.tags["enriched"]) for r in rows] == [("A red cup stands on the table.", False)] * 2


def test_an_answer_that_declines_ends_its_question_alone(pictures: Pictures, tmp_path: Path) -> None:
    def answer(request: Any) -> str:
        return "I'm sorry, but I can't help with that." if "What is it for?" in str(request.messages) else "A cup."

    model = actor(ask=answer)
    run = go("omnialign", pictures(1), tmp_path / "out", model, tasks=("knowledge",), follow="never")
    assert [turns(row) for row in made(run)] == [["Who made it?", "A cup."]]
    model = actor(ask="As an AI language model, I cannot see pictures.")
    run = go("omnialign", pictures(1, "others", 50), tmp_path / "b", model, tasks=("knowledge", "detail"))
    assert dropped(run) == {"answer: the model declines": 1}
    assert not {"comply", "enrich"} & set(model.counts())  # nothing more is paid for it


SORRY = "I'm sorry, but I can't help with that."


def test_no_rewritten_answer_declines(pictures: Pictures, tmp_path: Path) -> None:
    model = actor(enrich=SORRY)
    rows = made(go("omnialign", pictures(1), tmp_path / "a", model, tasks=("inferential",)))
    assert [(turns(r)[1], r.tags["enriched"]) for r in rows] == [("A red cup stands on the table.", False)] * 2
    model = actor(comply=lambda r: SORRY)  # which keeps "at most so many words"
    knobs: dict[str, Any] = {"tasks": ("knowledge",), "follow": "instead", "families": ("length",), "constraints": 1}
    run = go("omnialign", pictures(12, "others", 50), tmp_path / "b", model, **knobs)
    assert not made(run)
    assert dropped(run)["following: the model declines"]
    first = actor(kind="chart", chart="What stands out?", merge=SORRY)
    models = {"vlm": first, "llm": first, "second": actor(ask="The blue bar.")}
    run = go("omnialign", pictures(1, "charts", 90), tmp_path / "c", models=models)
    assert dropped(run) == {"chart: the answers could not be merged": 1}


def test_constraints_are_checked_by_code(pictures: Pictures, tmp_path: Path) -> None:
    knobs: dict[str, Any] = {"tasks": ("knowledge",), "follow": "instead", "families": ("format",), "constraints": 1,
                             "questions": 1}  # fmt: skip

    def obeys(request: Any) -> str:
        words = str(request.messages)
        for number, n in (("two", 2), ("three", 3), ("four", 4), ("five", 5)):
            if f"list of {number} points" in words:
                return "\n".join("- so" for _ in range(n))
        found = [n for n in range(2, 6) if f"from 1 to {n}" in words]
        if found:
            return "\n".join(f"{k}. so" for k in range(1, found[0] + 1))
        return "it is so" if "lower" in words else "IT IS SO"

    model = actor(comply=obeys)
    run = go("omnialign", pictures(8), tmp_path / "out", model, **knobs)
    rows = made(run)
    assert len(rows) == 8
    assert all(r.tags["task"] == "following" and turns(r)[0].endswith(r.tags["constraints"][0]["says"]) for r in rows)
    assert model.counts()["comply"] == 8

    model = actor(comply="It is so, as before.")
    run = go("omnialign", pictures(8, "others", 50), tmp_path / "b", model, **knobs)
    assert sum(dropped(run).values()) == 8
    assert all(reason.startswith("constraint not kept: ") for reason in dropped(run))
    assert model.counts()["comply"] == 16  # asked once more, with what was missed


def test_infographics_are_kept_where_two_models_agree(pictures: Pictures, tmp_path: Path) -> None:
    def go_with(name: str, **said: Any) -> Any:
        first, second = actor(kind="chart", chart="What stands out?", **said), Actor(ask="The blue bar.")
        models = {"vlm": first, "llm": first, "second": second}
        return go("omnialign", pictures(1), tmp_path / name, models=models), first

    run, first = go_with("a")
    (row,) = made(run)
    assert (turns(row)[1], row.tags["agreement"], row.tags["for_a_person"]) == ("It is merged.", 1.0, False)
    assert row.tags["answers"] == ["A red cup stands on the table.", "The blue bar."]
    run, first = go_with("b", compare="2")
    assert dropped(run) == {"flagged for a person": 1}
    assert "merge" not in first.counts()
    run, first = go_with("c", ask="the blue bar")
    assert turns(made(run)[0])[1] == "the blue bar"
    assert not {"facts", "compare", "merge"} & set(first.counts())


@pytest.mark.parametrize(("said", "knobs", "reason"), [
    ({"kind": "chart"}, {"infographics": False}, "chart: infographics are left out"),
    ({"kind": "art", "art": "Nice."}, {}, "art: no question could be read"),
    ({"ask": Reply("A", "length")}, {"tasks": ("detail",)}, "answer: cut off at its token limit"),
    ({"answer_good": "2"}, {"tasks": ("detail",), "good": 4}, "detail: answer rated low"),
])  # fmt: skip
def test_pictures_that_are_dropped(
    said: dict[str, Any], knobs: dict[str, Any], reason: str, pictures: Pictures, tmp_path: Path
) -> None:
    assert dropped(go("omnialign", pictures(1), tmp_path / "out", actor(**said), **knobs)) == {reason: 1}


def test_an_unknown_task_is_named(pictures: Pictures, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="did you mean 'creation'"):
        go("omnialign", pictures(1), tmp_path / "out", actor(), tasks=("creations",))


def test_numbers_are_read_from_a_choice() -> None:
    assert numbers_in("1, 3 and 24; 25, 0, 3", 24) == [0, 2, 23]
    assert numbers_in("none", 24) == []
