"""SeVa: what is asked of whom, every way a pair can come to nothing, hard negatives, groups, and what rows carry."""

from __future__ import annotations

import ast
import inspect
import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
from PIL import Image as Pillow

import foveal
from foveal.data import export, read
from foveal.errors import RecipeError
from foveal.methods.seva import method
from foveal.methods.seva.method import _open_ended, _questions
from foveal.models.scripted import Scripted, words_of
from foveal.models.wire import Reply, Request
from foveal.picture import decode
from foveal.record import Image, Item, Pair, Record, Turn, digest
from foveal.runner.local import Run
from foveal.steps.perturb import Perturbation, perturbed

Pictures = Callable[..., Path]
QUESTION = "What stands on the table there?"
BARE = {"steps": ["seva"], "name": "seva"}
"""The method without the table steps of its recipe."""


def shown(request: Request) -> list[Image]:
    return [p for m in request.messages for p in m.parts if not isinstance(p, str)]


class Policy(Scripted):
    """Answers about clean pictures one thing, about perturbed ones others, in the order they are first seen."""

    def __init__(self, clean: Any = "A red cup of tea.", *others: Any, question: Any = QUESTION) -> None:
        self.clean, self.others, self.question = clean, others or ("A blue hat of wool.",), question
        self.seen: list[str] = []
        super().__init__(self.say)

    def say(self, request: Request) -> str | Reply:
        if "ask one thing" in words_of(request):
            return self.question(request) if callable(self.question) else self.question
        if shown(request)[0].source != "memory":
            return self.clean
        name = shown(request)[0].digest
        if name not in self.seen:
            self.seen.append(name)
        return self.others[self.seen.index(name) % len(self.others)]

    def about(self, clean: bool) -> list[Request]:
        answers = [r for r in self.asked if "ask one thing" not in words_of(r)]
        return [r for r in answers if (shown(r)[0].source != "memory") == clean]


def picture(folder: Path, name: str = "p.png", level: int = 100, size: tuple[int, int] = (64, 48)) -> Path:
    folder.mkdir(exist_ok=True)
    Pillow.linear_gradient("L").resize(size).point(lambda v: (v + level) % 256).convert("RGB").save(folder / name)
    return folder / name


@pytest.fixture
def go(pictures: Pictures, tmp_path: Path) -> Callable[..., Run]:
    """Return a runner of SeVa alone on bare pictures, or on rows of conversations."""

    def run(policy: Scripted, rows: list[dict[str, Any]] | int = 1, what: Any = BARE, **knobs: Any) -> Run:
        if isinstance(rows, int):
            source = pictures(rows)
        else:
            picture(tmp_path)
            source = tmp_path / "chats.json"
            source.write_bytes(orjson.dumps(rows))
        return foveal.run(what, source, models={"policy": policy}, out=tmp_path / "out", **knobs)

    return run


def chat(*said: str, image: str | list[str] = "p.png") -> dict[str, Any]:
    turns = [{"from": ("human", "gpt")[n % 2], "value": text} for n, text in enumerate(said)]
    return {"image": image, "conversations": turns}


def only(run: Run) -> Record:
    (row,) = run.records()
    return row


# --- a pair and its lineage ----------------------------------------------------------------------------------------


def test_a_pair_from_a_conversation(go: Callable[..., Run], tmp_path: Path) -> None:
    policy = Policy()
    row = only(go(policy, [chat("What is it?", "Not used.")]))
    assert row.body == Pair([Turn("user", (0, "What is it?"))], "A red cup of tea.", "A blue hat of wool.")
    clean, noisy = row.images
    assert clean.data() == (tmp_path / "p.png").read_bytes()
    tags = dict(row.tags)
    how = tags.pop("perturbation")
    assert how == {"kind": "diffusion", "strength": 500, "side": 336, "seed": how["seed"]}
    assert tags == {
        "source": "chats.json row 1", "policy": "scripted", "group": digest(row.parent, "0"), "turn": 0,
        "asked": "data", "perturb": "diffusion:500", "distance": 0.6, "rejected_saw": [noisy.digest],
    }  # fmt: skip
    assert decode(noisy.data()).size == (336, 252)
    assert perturbed(clean, [Perturbation(**how)]) == (noisy,)


def test_the_same_question_is_asked_about_both_pictures(go: Callable[..., Run]) -> None:
    policy = Policy()
    row = only(go(policy, [chat("What is it?", "Not used.")]))
    asked = [(shown(r), words_of(r), dict(r.sampling)) for r in policy.asked]
    greedy = {"temperature": 0.0, "max_tokens": 512}
    assert asked == [([row.images[0]], "What is it?", greedy), ([row.images[1]], "What is it?", greedy)]


def test_the_perturbed_picture_lies_in_the_run_folder(go: Callable[..., Run], tmp_path: Path) -> None:
    run = go(Policy(), [chat("What is it?", "")])
    noisy = only(run).images[1]
    assert noisy.source == f"blob:{noisy.digest}"
    kept = tmp_path / "out" / "images" / noisy.digest[:2] / noisy.digest
    assert read(noisy.source, lambda _: kept.read_bytes()) == noisy.data()
    again = go(Scripted([]), [chat("What is it?", "")])
    assert only(again).images == only(run).images
    assert again.progress.meter.total.made == 0


def test_exports_show_the_clean_picture_to_both_sides(go: Callable[..., Run], tmp_path: Path) -> None:
    rows = list(go(Policy(), [chat("What is it?", "")]).records())
    for name in ("ms-swift", "sharegpt", "llava", "openai", "trl"):
        report = export(rows, name, tmp_path / name)
        assert report.rows == (name != "llava")
    (line,) = (tmp_path / "ms-swift" / "swift_dpo.jsonl").read_bytes().splitlines()
    row = orjson.loads(line)
    assert (row["messages"][0]["content"], len(row["images"])) == ("<image>What is it?", 1)
    assert "rejected_images" not in row
    assert orjson.loads(row["tags"])["perturbation"]["kind"] == "diffusion"


# --- questions -----------------------------------------------------------------------------------------------------


def test_a_bare_picture_has_questions_proposed(go: Callable[..., Run]) -> None:
    policy = Policy(question=lambda r: f"What is it, {len(policy.asked)}?")
    run = go(policy, questions=2, languages=["Thai"])
    questions = [r.body.question for r in run.records()]
    assert len(set(questions)) == 2
    assert {(r.tags["asked"], r.tags["turn"]) for r in run.records()} == {("proposed", 0), ("proposed", 1)}
    proposals = [r for r in policy.asked if "ask one thing" in words_of(r)]
    assert {r.sampling["temperature"] for r in proposals} == {1.0}
    assert all("Write it in Thai." in words_of(r) for r in proposals)
    assert len({words_of(r) for r in proposals}) == 2


FOUR = ("What is it?", "A cup.", "What colour has it?", "Red.")


def test_each_turn_after_those_before_it(go: Callable[..., Run]) -> None:
    policy = Policy()
    first, second = go(policy, [chat(*FOUR)], turns="each").records()
    assert first.body.prompt == (Turn("user", (0, "What is it?")),)
    assert second.body.prompt == (
        Turn("user", (0, "What is it?")), Turn("assistant", "A cup."), Turn("user", "What colour has it?"),
    )  # fmt: skip
    assert first.tags["group"] != second.tags["group"]
    last = policy.asked[-1]
    assert [m.role for m in last.messages] == ["user", "assistant", "user"]
    assert [len(m.parts) for m in last.messages] == [2, 1, 1]


def test_the_first_turn_alone(go: Callable[..., Run]) -> None:
    assert only(go(Policy(), [chat(*FOUR)])).body.question == "What is it?"


def test_pictures_stay_where_the_question_has_them(go: Callable[..., Run], tmp_path: Path) -> None:
    picture(tmp_path, "q.png", 7)
    policy = Policy()
    rows = [chat("This <image> or that <image> one?", "", image=["p.png", "q.png"])]
    row = only(go(policy, rows))
    assert row.body.prompt == (Turn("user", ("This ", 0, " or that ", 1, " one?")),)
    assert len(row.images) == 4
    assert [[type(p) is str for p in r.messages[0].parts] for r in policy.asked] == [[True, False] * 2 + [True]] * 2
    assert row.tags["rejected_saw"] == [i.digest for i in row.images[2:]]
    report = export([row], "ms-swift", tmp_path / "swift")
    assert orjson.loads(report.files[0].read_bytes())["images"] and report.rows == 1


@pytest.mark.parametrize(
    ("question", "left"),
    [
        ("Who wrote it?\nAnswer the question using a single word or phrase.", "Who wrote it?"),
        ("Who wrote it? Please answer with one word.", "Who wrote it?"),
        ("Answer with one word.", "Answer with one word."),
        ("Briefly describe it.", "Briefly describe it."),
        ("What is it? Briefly describe its colour.", "What is it? Briefly describe its colour."),
        ("What is the single word on the sign?", "What is the single word on the sign?"),
        ("", ""),
    ],
)
def test_a_request_for_one_word_is_taken_off(question: str, left: str) -> None:
    assert _open_ended(question) == left
    assert _open_ended((0, question)) == (0, left)


def test_brief_leaves_it(go: Callable[..., Run]) -> None:
    rows = [chat("Who wrote it?\nAnswer the question using a single word or phrase.", "")]
    assert only(go(Policy(), rows)).body.question == "Who wrote it?"
    assert only(go(Policy(), rows, brief=True)).body.question.endswith("phrase.")


def test_the_question_of_a_pair_or_an_item(go: Callable[..., Run], tmp_path: Path) -> None:
    picture(tmp_path)
    pair = {"images": ["p.png"], "prompt": "What is it?", "chosen": "a", "rejected": "b"}
    assert only(go(Policy(), [pair])).body.question == "What is it?"
    item = Record((Image.of(b""),), Item("Which?", choices=("a cup", "a hat")))
    assert _questions(item) == [((), Turn("user", (0, "Which?\nA. a cup\nB. a hat")))]


# --- every end -----------------------------------------------------------------------------------------------------

CUT = Reply("A red cup of", "length")
SAME = "a red cup, of tea"
ENDS: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = [
    ("chosen: cut off at its token limit", (CUT,), {}),
    ("rejected: cut off at its token limit", ("A red cup of tea.", CUT), {}),
    ("the same answer either way", ("A red cup of tea.", SAME), {}),
    ("answers too near each other", ("A red cup of tea.", "A red cup of milk."), {"near": 0.3}),
    ("answers too far apart", ("A red cup of tea.", "Nothing here at all."), {"far": 0.5}),
    ("answers of too unequal length", ("A red cup of tea.", "A hat"), {"ratio": 2}),
    ("rejected: speaks of how the picture was spoilt", ("A cup.", "The image is blurry."), {}),
]


@pytest.mark.parametrize(("reason", "said", "knobs"), ENDS, ids=[e[0] for e in ENDS])
def test_every_reason(go: Callable[..., Run], reason: str, said: tuple[Any, ...], knobs: dict[str, Any]) -> None:
    run = go(Policy(*said), [chat("What is it?", "")], **knobs)
    assert (dict(run.progress.dropped), run.rows) == ({reason: 1}, 0)


@pytest.mark.parametrize(
    ("said", "knobs"),
    [
        ((CUT,), {"whole": False}),
        (("A red cup of tea.", CUT), {"whole": False}),
        (("A red cup of tea.", SAME), {"equal": "exact"}),
        (("A red cup of tea.", "A red cup of milk."), {"near": 0.2}),
        (("A red cup of tea.", "A hat"), {"ratio": 2.5}),
        (("A cup.", "The image is blurry."), {"leaks": False}),
    ],
)
def test_every_knob_lets_pairs_through(go: Callable[..., Run], said: tuple[Any, ...], knobs: dict[str, Any]) -> None:
    assert go(Policy(*said), [chat("What is it?", "")], **knobs).rows == 1


def test_questions_that_cannot_be_used(go: Callable[..., Run]) -> None:
    assert dict(go(Policy(question="?? !!")).progress.dropped) == {"question: garbled or cut off": 1}
    run = go(Policy(), questions=3)  # the same one three times
    assert (run.rows, run.progress.dropped.total()) == (1, 0)


def test_records_that_have_no_question(go: Callable[..., Run], tmp_path: Path) -> None:
    rows = [{"conversations": chat("No picture?", "None.")["conversations"]}, chat("", "Nothing asked.")]
    policy = Policy()
    assert dict(go(policy, rows).progress.dropped) == {"no picture": 1, "no question": 1}
    assert not policy.asked


def test_every_reason_in_the_code_is_reached() -> None:
    calls = [n for n in ast.walk(ast.parse(inspect.getsource(method))) if isinstance(n, ast.Call)]
    ends = {n.args[-1].value for n in calls if isinstance(n.func, ast.Name) and n.func.id == "keep"}  # type: ignore[attr-defined]
    elsewhere = {
        "no picture", "no question", "question: garbled or cut off", "the same question again",
        "the same rejected answer again", "answers about other perturbations are nearer",
    }  # fmt: skip
    assert ends == {reason for reason, *_ in ENDS} | elsewhere


@pytest.mark.parametrize(
    "knobs",
    [{"perturb": ["difusion"]}, {"perturb": ["diffusion:2000"]}, {"perturb": []}, {"k": 0}, {"near": 0.6, "far": 0.5}],
)
def test_a_bad_knob_stops_before_anything_is_paid(go: Callable[..., Run], knobs: dict[str, Any]) -> None:
    policy = Policy()
    with pytest.raises(RecipeError):
        go(policy, 3, **knobs)
    assert not policy.asked


# --- several negatives ---------------------------------------------------------------------------------------------

SEVERAL = ["diffusion:300", "diffusion:800", "blur:8", "moco"]


def rejected(run: Run) -> list[str]:
    return [row.body.rejected for row in run.records()]


def test_k_negatives_are_rows_of_one_group(go: Callable[..., Run]) -> None:
    run = go(Policy("one two", "a b", "c d", "e f"), [chat("What is it?", "")], k=3, perturb=["diffusion:500", "flip"])
    assert rejected(run) == ["a b", "c d", "e f"]
    rows = list(run.records())
    assert len({r.tags["group"] for r in rows}) == 1
    assert [r.tags["perturb"] for r in rows] == ["diffusion:500", "flip", "diffusion:500"]
    assert rows[0].tags["perturbation"]["seed"] != rows[2].tags["perturbation"]["seed"]
    assert len({r.images[1] for r in rows}) == 3


def test_one_bad_negative_does_not_end_the_others(go: Callable[..., Run]) -> None:
    run = go(Policy("one two", "ONE two", "c d", "C D"), [chat("What is it?", "")], k=3)
    assert rejected(run) == ["c d"]
    assert run.progress.kept == 1


FAR = ("x y z w", "one two three x", "one two y z", "One two three four!")


def test_hard_negatives_are_the_nearest_that_differ(go: Callable[..., Run]) -> None:
    row = [chat("What is it?", "")]
    policy = Policy("one two three four", *FAR)
    assert rejected(go(policy, row, perturb=SEVERAL, pick="hard")) == ["one two three x"]
    assert len(policy.asked) == 1 + len(SEVERAL)
    assert rejected(go(policy, row, perturb=SEVERAL, pick="hard", k=2)) == ["one two three x", "one two y z"]
    assert rejected(go(policy, row, perturb=SEVERAL, pick="hard", near=0.3)) == ["one two y z"]
    # Only knobs were changed since: every answer was there already.
    assert len(policy.asked) == 1 + len(SEVERAL)


def test_the_listed_are_taken_in_turn(go: Callable[..., Run]) -> None:
    policy = Policy("one two three four", *FAR)
    assert rejected(go(policy, [chat("What is it?", "")], perturb=SEVERAL)) == ["x y z w"]
    assert len(policy.asked) == 2


def test_sampling(go: Callable[..., Run]) -> None:
    policy = Policy()
    go(policy, [chat("What is it?", "")], temperature=0.7, top_p=0.9, max_tokens=77)
    assert {tuple(r.sampling.items()) for r in policy.asked} == {
        (("temperature", 0.7), ("max_tokens", 77), ("top_p", 0.9))
    }


def test_seeds_change_the_noise(go: Callable[..., Run], tmp_path: Path) -> None:
    row = [chat("What is it?", "")]
    assert only(go(Policy(), row)).images != only(go(Policy(), row, seed=1)).images


# --- the recipe ----------------------------------------------------------------------------------------------------


def test_the_recipe_checks_the_whole_set(go: Callable[..., Run], tmp_path: Path) -> None:
    long = "A very long answer about a cup that stands there and is red and full of tea."

    def answer(request: Request) -> str:
        clean, n = shown(request)[0].source != "memory", int(words_of(request).split()[-1])
        if n == 0:
            return "A grainy picture." if clean else "A cup."
        return (long if n % 6 else "A cup.") if clean else "A hat, or a shoe."

    rows = [chat(f"What is number {n}", "") for n in range(12)]
    run = go(Scripted(answer), rows, what="seva")
    drops = foveal_drops(tmp_path / "out")
    assert drops == {
        "leaks": {"chosen: speaks of how the picture was spoilt": 1},
        "balance_length": {"length balance: chosen side the longer too often": 3},
    }
    assert run.rows == 8


def foveal_drops(folder: Path) -> dict[str, dict[str, int]]:
    from foveal.view.summary import summarise

    return {s.step: dict(s.dropped) for s in summarise(folder).steps if s.dropped}


@pytest.mark.small
def test_the_embedded_model_disagrees_with_itself(tmp_path: Path) -> None:
    """The embedded model answers otherwise about pictures it can hardly see; rows come out whole."""
    for n, colour in enumerate(("red", "green", "blue", "yellow", "purple", "white")):
        sheet = Pillow.new("RGB", (224, 224), "gray")
        sheet.paste(colour, (20 + 10 * n, 30, 110 + 10 * n, 140))
        (tmp_path / "p").mkdir(exist_ok=True)
        sheet.save(tmp_path / "p" / f"{colour}.png")
    run = foveal.run(
        BARE, tmp_path / "p", model="small", out=tmp_path / "out", questions=2, k=2, side=224,
        perturb=["diffusion:700", "blank"], max_tokens=60, whole=False,
    )  # fmt: skip
    rows = list(run.records())
    assert rows
    for row in rows:
        assert row.body.chosen != row.body.rejected
        assert row.tags["policy"].startswith("foveal-small")
        with Pillow.open(io.BytesIO(row.images[1].data())) as seen:
            assert seen.size == (224, 224)
