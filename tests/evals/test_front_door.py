"""`foveal eval` from the command line and from Python: remembered, resumable, budgeted, compared."""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import orjson
import pytest

from evals.pictures import knowing, shot
from foveal.cli import ALL_FAILED, BAD_SETUP, STOPPED, main
from foveal.errors import RunStopped
from foveal.evals import arena, suite
from foveal.evals.answer import Question, Shot
from foveal.evals.results import figures, write_results
from foveal.models.scripted import Scripted
from foveal.models.wire import Reply, Request
from foveal.record import digest
from foveal.scrapbook import Truth
from foveal.scrapbook.folder import to_json
from foveal.scrapbook.truth import description
from scrapbook.scenes import drawn_scene

PICTURES = [shot(drawn_scene(seed), f"{seed:03}.jpg") for seed in range(12)]
NAMES = ("pope", "chair", "exact", "consistency", "arena")


def truthful(q: Question) -> str:
    return q.answer or description(q.shot.scene, random.Random(0))


def asked_of(names: tuple[str, ...] = NAMES, pictures: list[Shot] = PICTURES) -> dict[str, list[Question]]:
    return suite.questions_of(suite.named(names, two=True), pictures)


def told(tmp: Path, say: Callable[[Question], str | Reply], names: tuple[str, ...] = NAMES) -> suite.Asked:
    asked = asked_of(names)
    model = knowing([q for of in asked.values() for q in of], say)
    return suite.ask_all(suite.named(names, two=True), asked, model, tmp)


def test_who_knows_the_truth_gets_everything_right(tmp_path: Path) -> None:
    model = knowing([q for of in asked_of().values() for q in of], truthful)
    scored = suite.evaluate([n for n in NAMES if n != "arena"], PICTURES, model, tmp_path / "run")
    found = {m.name: m.value for s in scored.values() for m in s.measures}
    wanted = dict.fromkeys(found, 1.0) | {"chair/chair_i": 0.0, "chair/chair_s": 0.0}
    wanted |= {n: 0.5 for n in found if n.endswith("/yes")} | {"chair/words": found["chair/words"]}
    assert found == pytest.approx(wanted)


def test_a_second_evaluation_pays_nothing(tmp_path: Path) -> None:
    def refuse(q: Question) -> str:
        raise AssertionError("a remembered call was sent again")

    first = told(tmp_path / "run", truthful)
    second = told(tmp_path / "run", refuse)
    assert first.made > 100
    assert (second.made, second.answers) == (0, first.answers)


def test_a_new_evaluation_pays_only_for_what_is_new(tmp_path: Path) -> None:
    told(tmp_path / "run", truthful, ("chair",))
    asked = asked_of(("chair", "pope", "arena"))
    more = told(tmp_path / "run", truthful, ("chair", "pope", "arena"))
    assert more.made == len({q.record.id for q in asked["pope"]})  # the arena asks for the same descriptions


def test_a_budget_stops_and_the_same_call_goes_on(tmp_path: Path) -> None:
    evaluations, asked = suite.named(("pope",), False), asked_of(("pope",))
    model = knowing(asked["pope"], truthful)
    model.slots = 1
    with pytest.raises(RunStopped):
        suite.ask_all(evaluations, asked, model, tmp_path / "run", budget={"calls": 20})
    after = suite.ask_all(evaluations, asked, model, tmp_path / "run")
    assert len(model.asked) == len({q.record.id for q in asked["pope"]})
    assert not any(after.unanswered.values())


def test_probabilities_reach_the_scorer(tmp_path: Path) -> None:
    def unsure(q: Question) -> Reply:
        return Reply("Yes", probs={"Yes": 0.6, "No": 0.2})

    answers = told(tmp_path / "run", unsure, ("pope",))
    assert {a.p for a in answers.answers["pope"].values()} == {0.75}


def test_a_useless_reply_is_counted_not_lost(tmp_path: Path) -> None:
    def mumbles(q: Question) -> str:
        return "Perhaps." if q.kind == "adversarial" and q.answer == "No" else truthful(q)

    asked, answers = asked_of(("pope",)), told(tmp_path / "run", mumbles, ("pope",))
    negative = {q.record.id for q in asked["pope"] if q.kind == "adversarial" and q.answer == "No"}
    assert 0 < answers.unanswered["pope"] <= len(negative)
    (scored,) = suite.scored(suite.named(("pope",), False), asked, answers).values()
    assert {r["said"] for r in scored.rows if r["record"] in negative} <= {None, "No"}
    assert {r["right"] for r in scored.rows if r["said"] is None} == {False}


def test_a_judge_that_turns_with_the_order_decides_nothing(tmp_path: Path) -> None:
    asked = asked_of(("arena",))["arena"]
    one, other = (told(tmp_path / str(i), say, ("arena",)) for i, say in enumerate((truthful, lambda q: "A thing.")))
    biased, fair = Scripted([(".", "First")], "biased"), Scripted(_by_first_words, "fair")
    won = [
        arena.judge(asked, one.answers["arena"], other.answers["arena"], judge, tmp_path / judge.identity)
        for judge in (biased, fair)
    ]
    assert set(won[0].values()) == {0.5}
    assert set(won[1].values()) == {1.0}
    assert len(biased.asked) == 2 * len(asked)
    scored = suite.arena_of(asked, one, other, fair, tmp_path / "fair")
    assert scored.measures[0].value == 1.0


def _by_first_words(request: Request) -> str:
    words = "".join(p for p in request.messages[-1].parts if isinstance(p, str))
    return "Second" if "First description:\nA thing." in words else "First"


def test_two_models_are_compared_on_every_figure(tmp_path: Path) -> None:
    names, asked = ("pope", "chair"), asked_of(("pope", "chair"))
    evaluations = suite.named(names, True)
    sides = {
        "model": told(tmp_path / "a", truthful, names),
        "against": told(tmp_path / "b", lambda q: "Yes" if q.answer else "A dog and a cat.", names),
    }
    items = {side: suite.scored(evaluations, asked, a) for side, a in sides.items()}
    shown = figures(items["model"], items["against"])
    written = write_results(tmp_path / "out", {"seed": 0}, shown, sides, items)
    assert json.loads((tmp_path / "out" / "results.json").read_bytes()) == json.loads(orjson.dumps(written))
    by_name = {f["name"]: f for f in shown}
    gap = by_name["pope/random/accuracy"]["difference"]
    assert (gap["value"], gap["test"]) == (0.5, "sign")
    assert 0.2 < gap["low"] < 0.5
    assert gap["p"] < 0.01
    assert by_name["chair/chair_i"]["difference"]["high"] < 0
    rows = [json.loads(line) for line in (tmp_path / "out" / "items.jsonl").read_text().splitlines()]
    assert len(rows) == 2 * (len(asked["pope"]) + len(asked["chair"]))
    assert {r["by"] for r in rows} == {"model", "against"}


# --- the command line ----------------------------------------------------------------------------------------------


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder with scenes/ and scripts of answers."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scenes").mkdir()
    lines = []
    for seed in range(6):
        data = f"picture {seed}".encode()
        (tmp_path / "scenes" / f"{seed}.jpg").write_bytes(data)
        lines.append(orjson.dumps(to_json(Truth(f"{seed}.jpg", digest(data), "held", drawn_scene(seed)))))
    (tmp_path / "scenes" / "truth.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    (tmp_path / "yes.yaml").write_text('- {match: "^(Is|Are) there", say: "Yes"}\n- {match: ".", say: "A cat."}\n')
    (tmp_path / "no.yaml").write_text('- {match: ".", say: "No"}\n')
    (tmp_path / "mute.yaml").write_text('- {match: "nothing matches", say: "No"}\n')
    return tmp_path


Say = Callable[..., tuple[int, str, str]]


@pytest.fixture
def foveal(here: Path, capfd: pytest.CaptureFixture[str]) -> Say:
    """Return a caller of the command line: (exit code, stdout, stderr)."""

    def call(*words: str) -> tuple[int, str, str]:
        try:
            code = main(words)
        except SystemExit as end:
            code = int(end.code or 0)
        return code, *capfd.readouterr()

    return call


YES = ("--on", "scenes", "--model", "scripted:yes.yaml")


def test_always_yes(foveal: Say, here: Path) -> None:
    code, out, _ = foveal("eval", "pope,chair", *YES, "--json")
    results = json.loads(out)
    assert code == 0
    assert json.loads((here / "evals" / "results.json").read_text()) == results
    assert results["models"]["model"] == {"model": "scripted:yes", "unanswered": {"pope": 0, "chair": 0}}
    found = {f["name"]: f["model"]["value"] for f in results["figures"]}
    assert (found["pope/random/recall"], found["pope/random/yes"]) == (1.0, 1.0)
    assert found["pope/f1"] == pytest.approx(2 / 3, abs=1e-6)
    assert (here / "evals" / "scripted-yes.yaml" / "report.html").is_file()


def test_consistency_by_itself(foveal: Say, here: Path) -> None:
    code, out, err = foveal("eval", "consistency", *YES, "--quiet")
    assert (code, err) == (0, "")
    assert "samples" in out
    assert (here / "evals" / "scripted-yes.yaml-sampled" / "report.html").is_file()


def test_the_table_shows_both_models_and_the_difference(foveal: Say) -> None:
    code, out, err = foveal("eval", "pope,arena", *YES, "--against", "scripted:no.yaml", "--quiet")
    assert (code, err) == (0, "")
    assert "6 pictures of scenes" in out
    assert "random/recall ↑" in out
    assert "+100.0" in out
    assert "win_lc" in out
    assert max(len(line) for line in out.splitlines()) > 80  # no cell is folded


def test_a_judge_model_is_asked(foveal: Say, here: Path) -> None:
    (here / "judge.yaml").write_text('- {match: ".", say: "Tie"}\n')
    both = (*YES, "--against", "scripted:no.yaml", "--judge", "scripted:judge.yaml")
    code, out, _ = foveal("eval", "arena", *both, "--json")
    assert code == 0
    assert {f["name"]: f["model"]["value"] for f in json.loads(out)["figures"]}["arena/tie"] == 1.0


def test_stopped_by_a_budget_and_continued(foveal: Say) -> None:
    assert foveal("eval", "pope", *YES, "--quiet", "--max-calls", "3")[0] == STOPPED
    assert foveal("eval", "pope", *YES, "--quiet")[0] == 0


def test_nothing_answered(foveal: Say) -> None:
    code, out, _ = foveal("eval", "pope", "--on", "scenes", "--model", "scripted:mute.yaml", "--quiet")
    assert code == ALL_FAILED
    assert "no usable answer" in out


def test_own_prompts(foveal: Say, here: Path) -> None:
    (here / "mine").mkdir()
    (here / "mine" / "describe.md").write_text("Tell me all.")
    (here / "tell.yaml").write_text('- {match: "^Tell me all.$", say: "A cat."}\n')
    code, _, _ = foveal(
        "eval", "chair", "--on", "scenes", "--model", "scripted:tell.yaml", "--prompts", "mine", "--json"
    )
    assert code == 0


BAD = [
    (("eval", "pop", *YES), "did you mean 'pope'"),
    (("eval", ",", *YES), "no evaluation is named"),
    (("eval", "arena", *YES), "--against"),
    (("eval", "pope", "--on", "nowhere"), "nowhere has no truth.jsonl"),
    (("eval", "pope", *YES, "--against", "scripted:yes.yaml"), "the same model"),
    (("eval", "pope", *YES, "--limit", "0"), "--limit 0"),
    (("eval", "pope", "--on", "scenes", "--model", "{model: small, sampling: {temprature: 1}}"), "temprature"),
    (("eval", "pope", "--on", "scenes", "--model", "{model: [}"), "not a mapping"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "said"), BAD, ids=[s for _, s in BAD])
def test_a_bad_set_up_is_one_sentence_and_pays_nothing(
    foveal: Say, here: Path, words: tuple[str, ...], said: str
) -> None:
    code, _, err = foveal(*words)
    assert code == BAD_SETUP
    assert said in err
    assert len(err.strip().splitlines()) == 1
    assert not (here / "evals").exists()


def test_without_numpy_the_extra_is_named(foveal: Say, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("foveal.commands.evaluate.find_spec", lambda name: None)
    code, _, err = foveal("eval", "pope", *YES)
    assert code == BAD_SETUP
    assert "pip install 'foveal[evals]'" in err


def test_a_missing_picture_is_named(foveal: Say, here: Path) -> None:
    (here / "scenes" / "3.jpg").unlink()
    code, _, err = foveal("eval", "pope", *YES)
    assert code == BAD_SETUP
    assert "3.jpg" in err


@pytest.mark.small
def test_the_embedded_model_can_be_evaluated(foveal: Say, here: Path, tmp_path: Path) -> None:
    from PIL import Image as PILImage

    lines = []
    for seed in range(3):
        path = here / "scenes" / f"{seed}.png"
        PILImage.new("RGB", (64, 64), (80 * seed, 90, 200)).save(path)
        lines.append(orjson.dumps(to_json(Truth(path.name, digest(path.read_bytes()), "held", drawn_scene(seed)))))
    (here / "scenes" / "truth.jsonl").write_bytes(b"\n".join(lines) + b"\n")
    code, out, _ = foveal("eval", "pope,chair,exact,consistency", "--on", "scenes", "--model", "small", "--json")
    results = json.loads(out)
    assert code == 0
    assert results["models"]["model"]["model"].startswith("foveal-small@")
    assert not any(results["models"]["model"]["unanswered"].values())
    assert "pope/ece" in {f["name"] for f in results["figures"]}
    assert asdict(PICTURES[0].scene)
