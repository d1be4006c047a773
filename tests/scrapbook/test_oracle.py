"""The oracle tells the truth: on what `truth` words, on variants of it, and as the judge of a method."""

import asyncio
import random
import re
from itertools import pairwise
from pathlib import Path
from typing import Literal

import pytest
from pydantic import BaseModel

import foveal
from foveal.errors import ModelFailed, SourceError
from foveal.methods.oasis.method import P
from foveal.models.connect import connect
from foveal.models.model import Model, Scale
from foveal.models.oracle import Oracle
from foveal.models.scripted import Scripted
from foveal.prompts import Prompt
from foveal.record import Image
from foveal.scrapbook import Chart, Scene, Settings, Table, Text, Thing, compose, load_truth, make, oracle
from foveal.scrapbook.album import looks
from foveal.scrapbook.truth import TOPICS, description, fact_of
from foveal.scrapbook.writer import complied
from foveal.steps.constraints import draw
from scrapbook.scenes import drawn_scene

NOUNS = sorted({look.noun for look in looks()})

SCENE = Scene(
    0,
    "row",
    "pink",
    (
        Thing("dog", (0.05, 0.3, 0.25, 0.6), "brown", place="on the left"),
        Thing("cat", (0.35, 0.2, 0.65, 0.7), "gray", place="in the middle"),
        Thing("dog", (0.75, 0.3, 0.95, 0.6), "", place="on the right"),
    ),
    (Text("No. 7", "sign", "at the top", (0.3, 0.0, 0.7, 0.15), "red"),),
)
CHARTED = Scene(
    1,
    "row",
    "photo",
    (Thing("apple", (0.4, 0.7, 0.6, 0.95), "red", place="at the bottom"),),
    (),
    Chart("bar", "Votes", ("Ann", "Ben", "Leo"), (4, 9, 2), ("red", "red", "red"), (0.0, 0.0, 1.0, 0.66)),
)
TABLED = Scene(
    2,
    "row",
    "gradient",
    (Thing("key", (0.4, 0.7, 0.6, 0.95), "", place="at the bottom"),),
    (),
    None,
    Table(("Name", "Goals", "Steps"), (("Mon", "12", "7"), ("Tue", "3", "40")), (0.0, 0.0, 1.0, 0.4)),
)


@pytest.fixture(scope="module")
def drawn(wide_album):
    return [compose(wide_album, seed, settings=Settings(text=0.3, chart=0.1, table=0.1)).scene for seed in range(250)]


def test_every_fact_is_answered_as_the_truth_words_it(drawn):
    asked = 0
    for scene in drawn:
        for topic in TOPICS:
            fact = fact_of(topic, scene, random.Random(scene.seed), NOUNS)
            if fact is None:
                continue
            said = oracle.reply(scene, fact.question)
            assert said is not None, fact
            if topic != "describe":  # of which there are several
                assert (said.answer, said.definite) == (fact.answer, fact.definite), fact
            asked += 1
    assert asked > 2000


def test_true_answers_are_good_and_wrong_ones_are_not(drawn):
    for scene, other in pairwise(drawn):
        for topic in TOPICS:
            fact = fact_of(topic, scene, random.Random(scene.seed), NOUNS)
            if fact is None:
                continue
            assert oracle.good(scene, fact.question, fact.answer) >= (0.5 if topic in ("describe", "list") else 1), fact
            elsewhere = oracle.reply(other, fact.question)
            verdicts = {said.answer.split(",")[0] for said in (fact, elsewhere) if said}
            if elsewhere and topic not in ("describe", "list") and len(verdicts) == 2:
                assert oracle.good(scene, fact.question, elsewhere.answer) < 0.5, (fact, elsewhere)


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("how many dogs do you see in this image", "Two."),
        ("Please count all the dogs in the picture. Answer with one word.", "Two."),
        ("How many brown dogs are there?", "One."),
        ("How many things are there?", "Three."),
        ("Is there a kitten here?", "Yes, there is a cat."),
        ("Are there any elephants in the image?", "No, there is no elephant."),
        ("Do you see a cat?", "Yes, there is a cat."),
        ("What colour is the cat?", "Gray."),
        ("Is the cat gray or white?", "Gray."),
        ("Is the cat grey?", "Yes, the cat is gray."),
        ("What color is the background?", "Pink."),
        ("Where is the cat?", "In the middle."),
        ("Can you tell me where the cat is?", "In the middle."),
        ("What is in the center of the picture?", "A cat."),
        ("What object is to the left of the cat?", "A dog."),
        ("Is the cat on the left?", "No, the cat is in the middle."),
        ("What is the color of the dog on the left?", "Brown."),
        ("Which is larger, the dog on the left or the cat?", "The cat."),
        ("What does the sign say?", 'It says "No. 7".'),
        ("Read the text in the picture.", 'It says "No. 7".'),
        ("What is written on the tag?", "There is no tag in the picture."),
        ("Where is the horse?", "There is no horse in the picture."),
        ("Is there a sign?", "Yes, there is a sign."),
        ("Is there a chart?", "No, there is no chart."),
    ],
)
def test_variants_are_understood(question, answer):
    assert oracle.reply(SCENE, question).answer == answer


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("What is the value for Ben in the chart?", "9."),
        ("Which value in the chart is the lowest?", "Leo, with 2."),
        ("What kind of chart is this?", "It is a bar chart."),
        ("What is the chart about?", '"Votes".'),
        ("What does the table say under Goals for Tue?", "There is no table in the picture."),
    ],
)
def test_charts_are_read(question, answer):
    assert oracle.reply(CHARTED, question).answer == answer


def test_tables_are_read():
    assert oracle.reply(TABLED, 'What is the value of "Steps" for Mon in the table?').answer == "7."
    assert oracle.reply(TABLED, "What does the table say under Goals for Tue?").answer == "3."


@pytest.mark.parametrize("question", ["What is the name of the cat?", "How old is the cat?", "Why?", "asdf", ""])
def test_what_the_picture_does_not_tell_is_not_answered(question):
    assert oracle.reply(SCENE, question) is None
    assert oracle.good(SCENE, question, "Rex, seven years.") == 0
    if question:
        assert oracle.good(SCENE, question, oracle.UNKNOWN) == 1


@pytest.mark.parametrize(
    ("text", "score"),
    [
        ("A dog on the left, a cat in the middle and a dog on the right.", 5),
        ('Two dogs and a cat, and a sign that says "No. 7".', 5),
        ("A dog on the left, a horse in the middle and a dog on the right.", 3),
        ("A cat on the left and a horse in the middle.", 2),
        ("A whale and a drum.", 1),
        ('A cat and a sign that says "OPEN".', 3),
    ],
)
def test_captions_are_as_true_as_they_are(text, score):
    assert oracle.true(SCENE, text) == score


@pytest.mark.parametrize(
    ("text", "grounded", "solvable"),
    [
        ("What color is the cat?", 5, 5),
        ("What color is the horse?", 1, 1),
        ("Which is bigger, the cat or the horse?", 3, 2),
        ("How big is the cat on the left?", 3, 2),
        ("Is there a horse?", 1, 5),
        ("How old is the cat?", 5, 1),
        ("What does the picture show?", 5, 5),
        ("What does the tag say?", 1, 1),
    ],
)
def test_instructions_are_as_grounded_and_solvable_as_they_are(text, grounded, solvable):
    assert (oracle.grounded(SCENE, text), oracle.solvable(SCENE, text)) == (grounded, solvable)


@pytest.mark.parametrize(
    ("text", "least", "most"),
    [
        ("What is on the left?", 5, 5),
        ('What does the sign say? It says "No. 7".', 5, 5),
        ("Which share is 35 %?", 5, 5),
        ("What is is on the left?", 4, 4),
        ("What ### is on the left?", 1, 2),
        ("on What left? is the", 1, 1),
        ("Wzrtk qpf#s on xxbcdfgh lqft?", 1, 1),
        ("What is on the", 1, 2),
        ("", 1, 1),
    ],
)
def test_damage_shows(text, least, most):
    assert least <= oracle.sensible(text) <= most


def test_instructions_are_taken_out_word_for_word():
    text = "1. What is on the left?\n2. Count the cats.\nTwo dogs and a cat. Where is the cat?"
    assert oracle.requests(text) == ["What is on the left?", "Count the cats.", "Where is the cat?"]
    assert oracle.requests("A cat in the middle.") == []


# --- as a model ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scenes(tmp_path_factory, wide_album):
    folder = tmp_path_factory.mktemp("oracle") / "scenes"
    make(folder, 50, album=wide_album, workers=1, settings=Settings(text=0.2, chart=0.05, table=0.05))
    return folder


def shown(scenes: Path, n: int):
    truth = list(load_truth(scenes).values())[n]
    return truth.scene, Image.of((scenes / truth.file).read_bytes())


def ask(backend, *args, **kwargs):
    return asyncio.run(Model(backend).ask(*args, **kwargs))


class Found(BaseModel):
    instructions: list[str]


def test_judge_prompts_are_answered_from_what_they_were_rendered_with(scenes):
    model = Oracle(scenes)
    scene, image = shown(scenes, 0)
    there, gone = scene.things[0].noun, next(n for n in NOUNS if n not in {t.noun for t in scene.things})
    five = Scale(1, 5)
    assert ask(model, P.grounded(instruction=f"What color is the {there}?"), [image], out=five) == 5
    assert ask(model, P.grounded(instruction=f"What color is the {gone}?"), [image], out=five) == 1
    assert ask(model, P.caption_true(caption=f"A {there}."), [image], out=five) == 5
    assert ask(model, P.caption_true(caption=f"A {gone}."), [image], out=five) == 1
    assert ask(model, P.answer_good(instruction=f"Is there a {gone}?", answer="No."), [image], out=five) == 5
    assert ask(model, P.answer_good(instruction=f"Is there a {gone}?", answer="Yes."), [image], out=five) == 1
    assert ask(model, P.kind(text="A cat."), out=Literal["instruction", "caption"]) == "caption"
    assert ask(model, P.kind(text="Where is it?"), out=Literal["instruction", "caption"]) == "instruction"
    text = "What is there? A cat. Count them."
    assert ask(model, P.extract(text=text, many=True), out=Found).instructions == ["What is there?", "Count them."]
    assert ask(model, P.extract(text=text, many=False), out=Found).instructions == ["What is there?"]


def test_prompts_of_other_methods_are_answered_by_their_variables(scenes):
    model = Oracle(scenes)
    scene, image = shown(scenes, 0)
    there, gone = scene.things[0].noun, next(n for n in NOUNS if n not in {t.noun for t in scene.things})

    def prompt(name="x/judge", **values):
        return Prompt("Judge this.", name, values)

    pair = prompt(first=f"There is a {there}.", second=f"There is a {gone}.")
    assert ask(model, pair, [image], out=Literal["First", "Second", "Tie"]) == "First"
    pair = prompt(question=f"Is there a {gone}?", answer_a="Yes.", answer_b="No.")
    assert ask(model, pair, [image], out=Literal["A", "B", "C"]) == "B"
    claim = prompt(claim=f"There is a {gone} in the picture.")
    assert ask(model, claim, [image], out=Literal["yes", "no"]) == "no"
    assert ask(model, claim, [image], out=Literal["supported", "contradicted"]) == "contradicted"
    assert ask(model, prompt(question=f"Is there a {gone}?"), [image], out=Literal["Yes", "No"]) == "No"
    assert ask(model, prompt(question="Is it?", response="Yes."), [image], out=Scale(0, 10)) == 0


def test_free_questions_are_answered(scenes):
    scene, image = shown(scenes, 3)
    assert (
        ask(Oracle(scenes), "How many things are there?", [image])
        == oracle.reply(scene, "How many things are there?").answer
    )
    assert ask(Oracle(scenes), "Who owns it?", [image]) == oracle.UNKNOWN


def test_what_it_cannot_know_fails_in_one_sentence(scenes):
    model = Oracle(scenes)
    with pytest.raises(ModelFailed, match="a picture the oracle does not know"):
        ask(model, "What is this?", [Image.of(b"another")])
    with pytest.raises(ModelFailed, match="shown no picture"):
        ask(model, "What is this?")
    with pytest.raises(ModelFailed, match="cannot tell what is judged"):
        ask(model, "Rate it.", [shown(scenes, 0)[1]], out=Scale(1, 5))
    with pytest.raises(SourceError, match="has no truth"):
        connect(f"oracle:{scenes.parent}")


def test_what_a_prompt_was_rendered_with_is_no_part_of_the_call():
    from foveal.models.model import request_key
    from foveal.models.wire import Message, Request

    keys = {
        request_key("m", Request((Message("user", (words,)),)))[0]
        for words in (
            "Rate it.",
            Prompt("Rate it.", "x/y", {"answer": "a"}),
            Prompt("Rate it.", "z/y", {"answer": "b"}),
        )
    }
    assert len(keys) == 1


def test_oasis_with_the_oracle_keeps_all_and_tags_its_rows(scenes, tmp_path):
    done = foveal.run("oasis", scenes, model=f"oracle:{scenes}", out=tmp_path / "out")
    records = list(done.records())
    assert len(records) >= 45
    truths = load_truth(scenes)
    for record in records:
        assert record.tags["oracle"] == "vlm, llm"
        scene = truths[record.images[0].digest].scene
        assert oracle.good(scene, record.body.question, record.body.answer) >= 0.5


def test_the_oracle_judges_what_another_writes(scenes, tmp_path):
    """A policy that asks about what is there in half of the pictures: the oracle keeps just those."""
    truths = load_truth(scenes)

    def writes(request):
        image = next(p for m in request.messages for p in m.parts if isinstance(p, Image))
        scene = truths[image.digest].scene
        if not request.open_turn:
            return "Yes."
        return f"Can you see {'a unicorn' if scene.seed % 2 else f'the {scene.things[0].noun}'} in the picture?"

    policy = Scripted(writes)
    done = foveal.run("oasis", scenes, model=Oracle(scenes, policy), out=tmp_path / "out")
    assert {truths[r.images[0].digest].scene.seed % 2 for r in done.records()} == {0}
    assert done.rows == 25
    assert all(r.open_turn or not r.choices for r in policy.asked)
    assert all(r.tags["oracle"] == "vlm, llm" for r in done.records())


def test_the_oracle_asks_what_another_answers(scenes, tmp_path):
    """With "?" the questions come from the truth, and the answers, right or wrong, from the model."""
    (tmp_path / "says.yaml").write_text('- {match: ".", say: "A unicorn."}\n')
    spec = f"oracle:{scenes}?scripted:{tmp_path / 'says.yaml'}"
    models = {"evolver": spec, "judge": f"oracle:{scenes}"}
    done = foveal.run("mmevol", scenes, models=models, out=tmp_path / "out", eliminate=False, rounds=2)
    rows = list(done.records())
    truths = load_truth(scenes)
    assert len(rows) > 50
    assert {r.body.answer for r in rows} == {"A unicorn."}
    known = [oracle.reply(truths[r.images[0].digest].scene, r.body.question) for r in rows]
    assert all(known)
    eliminated = foveal.run("mmevol", scenes, models=models, out=tmp_path / "other", rounds=2)
    assert [r.body.question for r in eliminated.records()] == []
    assert connect(spec).identity != connect(spec.replace("?", "+")).identity


@pytest.mark.parametrize("seed", range(60))
def test_an_answer_is_rewritten_to_keep_a_constraint_and_says_nothing_new(seed):
    rng = random.Random(seed)
    scene = drawn_scene(seed)
    answer = description(scene, rng, detail=True)
    families = ("format", "punctuation", "structure", "length")
    (constraint,) = draw(rng, answer, 1, (rng.choice(families),))
    said = complied(answer, [constraint.says])
    plain = "Begin" not in constraint.says and "title" not in constraint.says
    if constraint.name not in ("at least", "ends in a question"):
        several = constraint.name in ("bullets", "numbered", "paragraphs", "sentences")
        assert constraint.holds(said) or (several and len(oracle.sentences(answer)) < 5), (constraint.says, said)
    words = set(re.findall(r"[a-z]+", answer.lower()))
    assert not plain or set(re.findall(r"[a-z]+", said.lower())) <= words


def test_a_run_with_the_oracle_says_so(scenes, tmp_path, capsys):
    from foveal.cli import main

    assert main(["run", "oasis", str(scenes), "--model", f"oracle:{scenes}", "-o", str(tmp_path), "--limit", "2"]) == 0
    assert "it measures a method and is no model" in capsys.readouterr().out
