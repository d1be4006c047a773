"""Recipes: every name binds before anything is paid, and what does not bind is told in one sentence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

import foveal
from foveal.errors import RecipeError
from foveal.models.scripted import Scripted
from foveal.recipe import bind, find_step, parse_recipe, read_recipe, recipe_of, with_backends, with_knobs

Pictures = Callable[..., Path]
OASIS = {"name": "r", "steps": ["oasis"]}

MINE = """
from collections.abc import AsyncIterator
from foveal import Chat, Model, Record
from foveal.steps.table import Table

async def one(image: Record, *, note: str = "a", count: int = 1) -> Record:
    return image.make(Chat([("user", f"q{note}"), ("assistant", "a")]))

async def several(image: Record, count: int = 2) -> AsyncIterator[Record]:
    for n in range(count):
        yield image.make(Chat([("user", f"{image.body.question if image.body else ''}/{n}"), ("assistant", "a")]))

async def late_role(image: Record, note: str = "a", *, policy: Model) -> Record:
    return image.make(Chat([("user", note), ("assistant", await policy.ask(note))]))

def odd(table: Table, keep: int = 1) -> Table:
    return table.without({i: "even" for n, i in enumerate(table.ids) if n % 2 != keep})

async def needs(image: Record, policy, noise: int) -> Record: ...
async def unknown(image: "Rekord") -> Record: ...
def plain(image: Record) -> Record: ...
async def wrong(image: Record) -> Record:
    return "text"
async def broken(image: Record) -> Record:
    return image.make(Chat([("user", "\\ud800"), ("assistant", "a")]))
async def untidy(image: Record) -> Record:
    return image.make(None, odd={1: object()})
SECRET = 1
"""


@pytest.fixture
def mine(tmp_path: Path) -> str:
    """Return the path of a user's own file of steps."""
    (tmp_path / "mine.py").write_text(MINE)
    return str(tmp_path / "mine.py")


# --- names ---------------------------------------------------------------------------------------------------------

WRONG: list[tuple[dict[str, Any], str]] = [
    ({"steps": ["oasys"]}, "no step is called 'oasys'; did you mean 'oasis'"),
    ({"steps": ["dedupe"]}, "no step is called 'dedupe'; did you mean 'dedup'"),
    ({"steps": [{"oasis": {"claritty": 3}}]}, "oasis has no knob 'claritty'; did you mean 'clarity'"),
    ({"steps": [{"dedup": {"byy": "question"}}]}, "dedup has no knob 'byy'; did you mean 'by'"),
    ({"steps": ["oasis"], "models": {"vml": "small"}}, "no step has a role 'vml'; did you mean 'vlm'"),
    ({"steps": [{"oasis": {"clarity": "high"}}]}, "oasis: clarity='high' does not fit: .*valid number"),
    ({"steps": [{"oasis": {"samples": 1.5}}]}, "samples=1.5 does not fit"),
    ({"steps": [{"oasis": {"proposer": "hok"}}]}, "proposer='hok' does not fit: .*'hook' or 'prompt'"),
    ({"steps": [{"oasis": {"captions": "perhaps"}}]}, "captions='perhaps' does not fit: .*boolean"),
    ({"steps": []}, "has no steps"),
    ({"steps": [{"oasis": {}, "dedup": {}}]}, "write a step as"),
    ({"steps": [{"oasis": [1]}]}, r"steps\.0"),
    ({"steps": "oasis"}, "steps: "),
    ({}, "steps: Field required"),
    ({"steps": ["oasis"], "sorce": "x"}, "sorce: .*did you mean 'source'"),
    ({"steps": ["oasis"], "limit": 0}, "limit: "),
    ({"steps": ["oasis"], "limit": "many"}, "limit: "),
    ({"steps": ["oasis"], "seed": "x"}, "seed: "),
    ({"steps": ["oasis"], "budget": {"call": 5}}, "budget.call: .*did you mean 'calls'"),
    ({"steps": ["oasis"], "budget": {"cost": -1}}, "budget.cost: "),
    ({"steps": ["oasis"], "models": {"vlm": {"modle": "x"}}}, "models.vlm.modle: .*did you mean 'model'"),
    ({"steps": ["oasis"], "models": {"vlm": {"concurrency": 0}}}, "models.vlm.concurrency: "),
]


@pytest.mark.parametrize(("fields", "said"), WRONG, ids=[said for _, said in WRONG])
def test_what_does_not_bind(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(RecipeError, match=said) as error:
        bind(parse_recipe({"name": "r"} | fields, "r.yaml"))
    assert "\n" not in str(error.value)


FILES = {
    "a: [": "is not YAML",
    "": "file: Input should be",
    "- oasis": "file: Input should be",
    "name: x\nsteps: [oasis]\nsteps2: 1": "steps2",
    "!!python/object/apply:os.system ['true']": "is not YAML",
}


@pytest.mark.parametrize(("text", "said"), FILES.items())
def test_a_file_that_is_no_recipe(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=said) as error:
        read_recipe(path)
    assert "r.yaml" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_recipe_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="cannot read"):
        read_recipe(tmp_path / "nope.yaml")
    (tmp_path / "r.yaml").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(RecipeError, match=r"cannot read|not YAML"):
        read_recipe(tmp_path / "r.yaml")


# --- knobs ---------------------------------------------------------------------------------------------------------

SETTINGS = [
    ("clarity=4", 0, "clarity", 4.0),
    ("oasis.clarity=4.5", 0, "clarity", 4.5),
    ("captions=no", 0, "captions", False),
    ("proposer=prompt", 0, "proposer", "prompt"),
    ("samples=3", 0, "samples", 3),
    ("dedup.at=0.5", 1, "at", 0.5),
    ("at=1", 1, "at", 1.0),
    ("oasis-2.clarity=2", 2, "clarity", 2.0),
]


@pytest.mark.parametrize(("setting", "step", "knob", "value"), SETTINGS)
def test_settings(setting: str, step: int, knob: str, value: object) -> None:
    recipe = parse_recipe({"name": "r", "steps": ["oasis", "dedup", {"oasis": {"samples": 2}}]}, "r")
    plan = bind(with_knobs(recipe, [setting]))
    given = plan.steps[step].knobs
    assert (given[knob], type(given[knob])) == (value, type(value))
    assert [len(b.knobs) for b in plan.steps] == [n + (step == i) for i, n in enumerate((0, 0, 1))]


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("clarity", "takes knob=value"),
        ("clarty=4", "no step has a knob 'clarty'; did you mean 'clarity'"),
        ("oassis.clarity=4", "the recipe has no step 'oassis'; did you mean 'oasis'"),
        ("oasis.at=1", "no step has a knob 'at'"),
        ("clarity=[", "does not fit"),
        ("samples=two", "does not fit"),
    ],
)
def test_settings_that_do_not_bind(setting: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        bind(with_knobs(parse_recipe(OASIS, "r"), [setting]))


def test_a_text_knob_takes_its_text_as_it_is(mine: str) -> None:
    recipe = parse_recipe({"name": "r", "steps": [f"{mine}:one"]}, "r")
    assert bind(with_knobs(recipe, ["note=12"])).steps[0].knobs == {"note": "12"}


def test_defaults_and_hooking() -> None:
    plan = bind(recipe_of("oasis"))
    assert [b.label for b in plan.steps] == ["oasis", "dedup"]
    assert plan.roles == ("vlm", "llm")
    assert (plan.hooks("vlm"), plan.hooks("llm")) == (True, False)
    assert not bind(with_knobs(recipe_of("oasis"), ["proposer=prompt"])).hooks("vlm")


def test_backends_bind_to_roles() -> None:
    plan, scripted = bind(recipe_of("oasis")), Scripted([])
    assert with_backends(plan, {"model": scripted}).specs == {"vlm": scripted, "llm": scripted}
    assert with_backends(plan, {"llm": scripted}).specs == {"vlm": "small", "llm": scripted}
    with pytest.raises(RecipeError, match="no step has a role 'lllm'; did you mean 'llm'"):
        with_backends(plan, {"lllm": scripted})


# --- a user's own file ---------------------------------------------------------------------------------------------

OWN = {
    "one_": "has no function 'one_'; did you mean 'one'",
    "SECRET": "has no function 'SECRET'",
    "Model": "has no function 'Model'",
    "needs": "annotate policy as Model .a role., or give it a default",
    "unknown": "an annotation of unknown cannot be resolved: name 'Rekord' is not defined",
    "plain": "must be an async function of a record",
}


@pytest.mark.parametrize(("function", "said"), OWN.items())
def test_a_function_that_is_no_step(mine: str, function: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        find_step(f"{mine}:{function}")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("import nowhere_at_all", "ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("def f(:", "SyntaxError"),
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("from foveal import Nope", "ImportError"),
    ],
)
def test_a_file_that_cannot_be_imported(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "bad.py").write_text(text)
    with pytest.raises(RecipeError, match=f"bad.py cannot be imported: {said}"):
        find_step(f"{tmp_path / 'bad.py'}:f")


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="no file"):
        find_step(f"{tmp_path / 'none.py'}:f")


def test_roles_bind_by_name_wherever_they_stand(mine: str, pictures: Pictures, tmp_path: Path) -> None:
    model = Scripted([(".", "said")])
    run = foveal.run(f"{mine}:late_role", pictures(2), model=model, out=tmp_path / "out", note="hello")
    assert [r.body.answer for r in run.records() if r.body] == ["said", "said"]  # type: ignore[union-attr]


@pytest.mark.parametrize(("function", "cause"), [("wrong", "TypeError in wrong"), ("broken", "TypeError in broken")])
def test_what_is_no_record_is_a_failed_record(
    mine: str, pictures: Pictures, tmp_path: Path, function: str, cause: str
) -> None:
    run = foveal.run(f"{mine}:{function}", pictures(3), out=tmp_path / "out")
    assert dict(run.progress.failed) == {cause: 3}


def test_tags_that_are_no_json_fail_their_record(mine: str, pictures: Pictures, tmp_path: Path) -> None:
    run = foveal.run(f"{mine}:untidy", pictures(3), out=tmp_path / "out")
    assert dict(run.progress.failed) == {"TypeError in untidy": 3}


# --- orders of steps -----------------------------------------------------------------------------------------------


def questions(folder: Path) -> list[str]:
    rows = map(orjson.loads, (folder / "rows.jsonl").read_bytes().splitlines())
    return [row["body"]["turns"][0]["content"] if row["body"] else "" for row in rows]


def test_two_steps_of_one_name(mine: str, pictures: Pictures, tmp_path: Path) -> None:
    steps = [{f"{mine}:several": {"count": 2}}, {f"{mine}:several": {"count": 3}}]
    run = foveal.run({"name": "r", "steps": steps}, pictures(2), out=tmp_path / "out")
    assert questions(tmp_path / "out") == [f"/{a}/{b}" for a in range(2) for b in range(3)] * 2
    assert (run.rows, run.progress.kept) == (12, 2)
    told = orjson.loads((tmp_path / "out" / "run.json").read_bytes())["steps"]
    assert [s["name"] for s in told] == ["several", "several-2"]


def test_rows_table_rows(mine: str, pictures: Pictures, tmp_path: Path) -> None:
    steps = [f"{mine}:several", f"{mine}:odd", {f"{mine}:several": {"count": 1}}]
    foveal.run({"name": "r", "steps": steps}, pictures(3), out=tmp_path / "out")
    assert questions(tmp_path / "out") == ["/1/0"] * 3
    again = foveal.run({"name": "r", "steps": steps}, pictures(3), out=tmp_path / "out")
    assert again.rows == 3


def test_a_table_step_first_sees_only_what_could_be_read(mine: str, pictures: Pictures, tmp_path: Path) -> None:
    photos = pictures(4)
    (photos / "p00001a.png").write_bytes(b"no picture")
    (photos / "p00009.png").write_bytes((photos / "p00000.png").read_bytes())
    for _ in range(2):
        run = foveal.run({"name": "r", "steps": [f"{mine}:odd", f"{mine}:one"]}, photos, out=tmp_path / "out")
        assert run.rows == 2  # of four pictures that can be read, the second and the fourth
        assert run.progress.failed == {"not a picture": 1}
        assert run.progress.dropped["the same picture again"] == 1


def test_a_table_step_alone(mine: str, pictures: Pictures, tmp_path: Path) -> None:
    photos = pictures(4)
    (photos / "x.png").write_bytes(b"")
    run = foveal.run({"name": "r", "steps": ["near_pictures"]}, photos, out=tmp_path / "out", knobs=["bits=0"])
    assert run.rows == 1  # pictures of one colour all hash alike
    sources = [
        orjson.loads(line)["tags"]["source"] for line in (tmp_path / "out" / "rows.jsonl").read_bytes().splitlines()
    ]
    assert sources == ["p00000.png"]


def test_a_recipes_own_file_lies_beside_it(mine: str, pictures: Pictures, tmp_path: Path) -> None:
    (tmp_path / "r.yaml").write_text("name: r\nsteps: [{'mine.py:one': {count: 1}}]\n")
    run = foveal.run(tmp_path / "r.yaml", pictures(2), out=tmp_path / "out", note="z", knobs=["one.count=3"])
    assert questions(tmp_path / "out") == ["qz", "qz"]
    assert run.state == "finished"


def test_a_helper_beside_a_step_is_part_of_what_it_is(tmp_path: Path, pictures: Pictures) -> None:
    (tmp_path / "words_of_mine.py").write_text('QUESTION = "what?"')
    (tmp_path / "helped.py").write_text(
        "from foveal import Chat, Record\n"
        "async def helped(image: Record, *, times: int = 1) -> Record:\n"
        "    import words_of_mine\n"
        "    return image.make(Chat([('user', words_of_mine.QUESTION * times), ('assistant', 'a')]))\n"
    )
    step = find_step(f"{tmp_path / 'helped.py'}:helped")
    before = step.digest()
    run = foveal.run(f"{tmp_path / 'helped.py'}:helped", pictures(1), out=tmp_path / "out")
    assert [record.body.question for record in run.records()] == ["what?"]
    (tmp_path / "unrelated.py").write_text("")
    assert step.digest() == before
    (tmp_path / "words_of_mine.py").write_text('QUESTION = "why?"')
    assert step.digest() != before


def test_a_users_own_table_step_is_not_tried_on_nothing(pictures: Pictures, tmp_path: Path) -> None:
    (tmp_path / "pick.py").write_text(
        "from foveal.steps.table import Table\n"
        "def pick(table: Table) -> Table:\n"
        "    return table.without({min(table.ids): 'the least'})\n"  # of no ids there is no least
    )
    recipe = {"name": "own", "steps": [f"{tmp_path / 'pick.py'}:pick"]}
    assert foveal.run(recipe, pictures(3), out=tmp_path / "out").rows == 2
