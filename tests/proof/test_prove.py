"""A proof from pictures to verdicts with a script for a model and a trainer that writes what a trainer writes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image as Pillow

from foveal.errors import SetupError
from foveal.models.scripted import Scripted, words_of
from foveal.models.wire import Request
from foveal.proof import prove as proving
from foveal.proof.claim import Arm, Claim, Contrast, Expect, Labelled, Made, Sampled, Sizes, Training, Upsampled
from foveal.proof.data import Kitchen, asked, contrasted, sampled, slug, upsampled
from foveal.proof.prove import Setting, faults, prove, replayed
from foveal.proof.results import results_of, tables, write_page, write_results
from foveal.record import Pair
from foveal.runner.folder import load_rows
from foveal.scrapbook import Album, Settings
from foveal.scrapbook import make as draw
from foveal.scrapbook.scene import COLOURS, Cutout, Look
from foveal.train.job import Job
from tests.conftest import picture_of

NOUNS = ("apple", "dog", "car", "tree", "cup", "boat", "clock", "chair")
PLAIN = Settings(text=0, chart=0, table=0)


def album() -> Album:
    """Return an album of few nouns as coloured squares, for both splits."""
    hues = list(COLOURS)
    squares = [Pillow.new("RGBA", (40, 40), (*COLOURS[hue], 255)) for hue in hues]
    cutouts = tuple(
        Cutout(Look(noun, "made", f"{split}-{noun}.png", at, split), squares[i], hues[i])
        for at, split in enumerate(("train", "held"))
        for i, noun in enumerate(NOUNS)
    )  # fmt: skip
    return Album(cutouts, (Pillow.new("RGB", (60, 60), (90, 120, 90)),))


def says(identity: str) -> Any:
    """Return a script: a model that is better or worse by its name, and is led astray by perturbed pictures."""

    def script(request: Request) -> str:
        n = int(picture_of(request)[:6] or "0", 16)
        if request.choices:
            return request.choices[n % len(request.choices)] if "good" not in identity else request.choices[-1]
        if request.open_turn:
            return f"What is on the left of picture {n % 97}?"
        if '"instructions"' in words_of(request):
            return json.dumps({"instructions": [words_of(request).split("Text:\n")[1].split("\n")[0]]})
        named = "a dog" if "good" in identity else f"a {NOUNS[n % 8]}, a clock and a chair"
        return f"The picture shows {named}."

    return script


class Company:
    """Opens scripted models: the subject, or what a folder's card says was made of it."""

    def __init__(self) -> None:
        self.opened: list[Scripted] = []

    def open(self, spec: str | Path) -> Scripted:
        name = str(spec) if isinstance(spec, str) else json.loads((spec / "card.json").read_text())["makes"]
        self.opened.append(Scripted(says(name), identity=name))
        return self.opened[-1]

    @property
    def asked(self) -> int:
        return sum(len(o.asked) for o in self.opened)


class School:
    """Trains by writing what `foveal.train.job.train` leaves; refuses the folders it is told to."""

    def __init__(self) -> None:
        self.jobs: list[Job] = []
        self.refuses: str = ""

    def train(self, job: Job, say: Any = print) -> dict[str, Any]:
        out = Path(job.out)
        if self.refuses and self.refuses in out.name:
            raise SetupError("this one cannot be trained")
        if (out / "card.json").is_file():
            say(f"{out} holds this very training, finished")
            return dict(json.loads((out / "card.json").read_text()))
        self.jobs.append(job)
        out.mkdir(parents=True)
        (out / "log.jsonl").write_text('{"step": 1, "loss": 0.7}\n{"step": 2, "loss": 0.5}\n')
        card = {"seconds": 1.5, "makes": f"{out.name}{' good' if job.verb == 'dpo' else ''}"}
        (out / "card.json").write_text(json.dumps(card))
        return card


@pytest.fixture
def company(monkeypatch: pytest.MonkeyPatch) -> tuple[Company, School]:
    models, school = Company(), School()
    known = album()

    def make(folder: Path, n: int, seed: int, split: Any, workers: int | None = None) -> Any:
        return draw(folder, n, seed, split, PLAIN, workers=1, album=known)

    monkeypatch.setattr(proving, "make", make)
    monkeypatch.setattr(proving, "Cast", lambda: models)
    monkeypatch.setattr(proving, "train", school.train)
    return models, school


PAIRS = Made("seva", 6, knobs={"perturb": ("pixelate:8",), "side": 0}, given="questions", each=3)
SFT, DPO = Training("sft", steps=4, rate=1e-4), Training("dpo", steps=4, rate=1e-5, loss="seva")
CLAIM = Claim(
    "toy", "0000.00000", "A toy.",
    (
        Arm("base", "as it is"),
        Arm("sft", "labelled", (Labelled(6, each=2),), SFT),
        Arm("dpo", "pairs", (PAIRS,), DPO),
        Arm("contrast", "pairs with pictures", (Contrast(PAIRS),), Training("dpo", steps=4, rate=1e-5, loss="mdpo")),
    ),
    (
        Expect("Pairs shorten answers", "chair/words", "dpo", "base", "lower", 1.0),
        Expect("Labels lower hallucination", "chair/chair_i", "sft", "base", "lower"),
        Expect("Recall is kept", "chair/recall", "dpo", "base", "kept"),
    ),
    ("chair/chair_i", "chair/recall", "chair/words", "pope/f1"),
)  # fmt: skip


def setting(out: Path, claim: Claim = CLAIM, seeds: int = 2) -> Setting:
    return Setting(out, (claim,), seeds, Sizes(held=12, sampled=4), subject="first", teacher="second")


def run(where: Setting) -> Any:
    return prove(where, say=lambda _: None)


def test_it_goes_from_pictures_to_verdicts_and_pays_once(company: tuple[Company, School], tmp_path: Path) -> None:
    models, school = company
    proof = run(setting(tmp_path))
    assert list(faults(proof)) == []
    assert len(school.jobs) == proof.trained == 6  # three arms, two seeds
    found = results_of(proof)
    told = {e["says"]: e for e in found["claims"][0]["expects"]}
    assert told["Pairs shorten answers"]["verdict"] == "holds"
    assert told["Pairs shorten answers"]["value"] == -5
    assert len(told["Pairs shorten answers"]["by_seed"]) == 2
    assert told["Labels lower hallucination"]["value"] == 0
    paid = models.asked
    again = run(setting(tmp_path))
    assert list(replayed(proof, again)) == []
    assert (models.asked, len(school.jobs)) == (paid, 6)
    assert results_of(again) == found


def test_seeds_share_no_picture(company: tuple[Company, School], tmp_path: Path) -> None:
    proof = run(setting(tmp_path))
    one, other = (set(by["base"].measures["pope/f1"].pictures) for by in proof.outcomes)
    assert one
    assert not one & other


def test_an_arm_that_fails_is_reported_and_the_others_go_on(company: tuple[Company, School], tmp_path: Path) -> None:
    company[1].refuses = "dpo-"
    found = results_of(run(setting(tmp_path)))["claims"][0]
    arms = {a["name"]: a for a in found["arms"]}
    assert arms["dpo"]["errors"] == ["seed 0: this one cannot be trained", "seed 1: this one cannot be trained"]
    assert arms["sft"]["errors"] == []
    verdicts = {e["says"]: e["verdict"] for e in found["expects"]}
    assert verdicts["Pairs shorten answers"] == "failed"
    assert verdicts["Labels lower hallucination"] != "failed"


def test_no_row_left_is_a_failure_in_one_sentence(company: tuple[Company, School], tmp_path: Path) -> None:
    claim = Claim(
        "none", "0000.00000", "x", (Arm("base", "x"), Arm("dpo", "x", (Made("seva", 4, knobs={"near": 1}),), DPO)),
        (), ("pope/f1",),
    )  # fmt: skip
    proof = run(setting(tmp_path, claim, seeds=1))
    assert any("no row is left" in fault for fault in faults(proof))


def test_what_was_killed_goes_on(
    company: tuple[Company, School], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    school = company[1]
    whole = run(setting(tmp_path / "whole"))
    train, left = school.train, 2

    def killed(job: Job, say: Any = print) -> dict[str, Any]:
        nonlocal left
        left -= 1
        if left == 0:
            raise KeyboardInterrupt
        return train(job, say)

    monkeypatch.setattr(proving, "train", killed)
    with pytest.raises(KeyboardInterrupt):
        run(setting(tmp_path / "cut"))
    monkeypatch.setattr(proving, "train", train)
    rest = run(setting(tmp_path / "cut"))
    assert list(replayed(whole, rest))[1:] == []  # it pays for what was not done, and comes to the same figures
    assert 0 < rest.made < whole.made
    assert rest.trained == 5


def test_weights_that_did_not_change_are_a_fault(company: tuple[Company, School], tmp_path: Path) -> None:
    def idle(job: Job, say: Any = print) -> dict[str, Any]:
        card = company[1].train(job, say)
        (Path(job.out) / "card.json").write_text(json.dumps({**card, "makes": "first"}))
        (Path(job.out) / "log.jsonl").write_text('{"step": 1, "loss": null}\n')
        return card

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(proving, "train", idle)
        proof = run(setting(tmp_path, seeds=1))
    found = list(faults(proof))
    assert any("the weights did not change" in fault for fault in found)
    assert any("the loss is not a number" in fault for fault in found)


# --- rows ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def kitchen(company: tuple[Company, School], tmp_path: Path) -> Kitchen:
    from foveal.evals.shots import load_shots

    draw(tmp_path / "scenes", 8, 5, "train", PLAIN, workers=1, album=album())
    shots = load_shots(tmp_path / "scenes")
    return Kitchen(tmp_path / "seed-0", 0, shots, {"subject": "first", "teacher": "second"}, company[0])  # type: ignore[arg-type]


def test_original_rows_ask_for_a_description_first_and_are_true(kitchen: Kitchen) -> None:
    rows = asked(kitchen.shots[0], 4, 0)
    assert rows[0].tags["topic"] == "describe"
    assert len({r.id for r in rows}) == len(rows)
    assert asked(kitchen.shots[0], 4, 0) == rows != asked(kitchen.shots[0], 4, 1)


def test_upsampling_repeats_all_before_any_again(kitchen: Kitchen) -> None:
    rows = [r for shot in kitchen.shots[:2] for r in asked(shot, 3, 0)]
    more = upsampled(rows, 2 * len(rows) + 1, 0)
    counts = sorted(sum(r.id == m.id for m in more) for r in rows)
    assert counts[0] == 2
    assert counts[-1] == 3
    assert upsampled([], 5, 0) == []


def test_upsampled_rows_are_as_many_as_the_methods(kitchen: Kitchen) -> None:
    original = Labelled(2, each=2)
    made = kitchen.rows(PAIRS)
    assert made
    assert len(kitchen.rows(Upsampled(original, PAIRS))) == len(made)


def test_sampled_rows_are_some_of_the_methods_in_their_order(kitchen: Kitchen) -> None:
    made = [row.id for row in kitchen.rows(PAIRS)]
    few = [row.id for row in kitchen.rows(Sampled(PAIRS, 3))]
    assert len(few) == 3
    assert [i for i in made if i in few] == few
    assert [row.id for row in kitchen.rows(Sampled(PAIRS, 10_000))] == made
    assert len(kitchen.rows(Upsampled(Labelled(2, each=2), Sampled(PAIRS, 3)))) == 3
    draws = {tuple(r.id for r in sampled(kitchen.rows(PAIRS), 3, seed)) for seed in range(20)}
    assert len(draws) > 1


def test_a_method_works_on_the_pictures_that_another_chose(kitchen: Kitchen) -> None:
    chooser = Made("omnialign-select", 8, knobs={"percentile.least": 50, "percentile-2.least": 0})
    chosen = {row.images[0].digest for row in kitchen.rows(chooser)}
    rows = kitchen.rows(Made("seva", 8, knobs={"perturb": ("pixelate:8",), "side": 0}, given="questions", on=chooser))
    assert 0 < len(chosen) < 8
    assert {row.images[0].digest for row in rows} <= chosen


def test_roles_are_played_by_whom_the_claim_names(kitchen: Kitchen, company: tuple[Company, School]) -> None:
    kitchen.who = {**kitchen.who, "truth": "third"}
    kitchen.rows(Made("oasis", 2, by="teacher", roles={"llm": "truth"}))
    assert {o.identity for o in company[0].opened if o.asked} == {"second", "third"}


def test_a_part_is_named_as_before_fields_were_added() -> None:
    """Folders of proofs that are under way are found again."""
    assert slug("seva", PAIRS) == slug("seva", replace(PAIRS, roles={}, on=None)) == "seva-1115fd8d"
    assert slug("seva", PAIRS) != slug("seva", replace(PAIRS, roles={"vlm": "truth"}))


def test_a_run_is_made_once_and_shares_its_calls(kitchen: Kitchen, company: tuple[Company, School]) -> None:
    kitchen.rows(PAIRS)
    first = company[0].asked
    kitchen.rows(PAIRS)
    assert company[0].asked == first
    kitchen.rows(Made("seva", 6, knobs={"perturb": ("blank",), "side": 0}, given="questions", each=3))
    fresh = company[0].asked - first
    assert 0 < fresh < first  # answers about clean pictures were paid before


def test_contrast_rows_show_the_rejected_side_the_perturbed_picture(kitchen: Kitchen) -> None:
    row = kitchen.rows(PAIRS)[0]
    other = contrasted(row)
    assert isinstance(other.body, Pair)
    assert isinstance(row.body, Pair)
    assert (other.body.chosen, other.body.rejected) == (row.body.chosen, row.body.rejected)
    assert other.body.rejected_images == (len(row.images) - 1,)
    assert other.images[-1].digest == row.tags["rejected_saw"][0]


def test_written_rows_are_read_back_with_their_pictures(kitchen: Kitchen) -> None:
    from foveal.train.data import read

    folder = kitchen.write((Contrast(PAIRS),), "contrast")
    for record in load_rows(folder):
        assert all(image.data() for image in record.images)
    rows = read(folder, "dpo", folder / "pictures")
    assert rows.rows[0]["rejected_images"] != rows.rows[0]["images"]
    assert rows.policies == {"first"}


# --- telling ---------------------------------------------------------------------------------------------------------


def lines(found: dict[str, Any]) -> Sequence[str]:
    from io import StringIO

    from rich.console import Console

    console = Console(file=StringIO(), width=200)
    for table in tables(found):
        console.print(table)
    return console.file.getvalue().splitlines()  # type: ignore[attr-defined]


def test_the_table_and_the_page_tell_every_arm_and_verdict(company: tuple[Company, School], tmp_path: Path) -> None:
    company[1].refuses = "contrast-"
    found = results_of(run(setting(tmp_path / "out")))
    path = write_results(tmp_path / "out", found)
    assert json.loads(path.read_text())["claims"][0]["name"] == "toy"
    shown = "\n".join(lines(found))
    page = tmp_path / "docs" / "proof.md"
    page.parent.mkdir()
    page.write_text("# Mine\n\nWords of mine.\n")
    picture = tmp_path / "toy.svg"
    picture.write_text("<svg/>")
    for _ in range(2):  # written again, what stands above stays and what stood below goes
        write_page(page, found, {"toy": picture}, "foveal prove toy")
    text = page.read_text()
    assert text.startswith("# Mine\n\nWords of mine.\n")
    assert text.count("## Results") == 1
    for told in (shown, text):
        assert all(e["says"] in told for e in found["claims"][0]["expects"])
        assert "holds" in told
        assert "failed" in told
    assert "contrast failed, seed 0: this one cannot be trained" in text
    assert "`foveal prove toy`: foveal " in text
    assert found["identities"] == {"subject": "first", "teacher": "second"}
    weights = {"subject": "weights-1", "teacher": "second"}
    write_page(page, found | {"identities": weights}, {"toy": picture}, "foveal prove toy")
    assert "subject `first` (weights-1), teacher `second`, " in page.read_text()
    assert (page.parent / "proof" / "toy.svg").is_file()
    assert "proof/toy.svg" in text


def test_a_claim_that_is_run_alone_leaves_the_others_on_the_page(
    company: tuple[Company, School], tmp_path: Path
) -> None:
    found = results_of(run(setting(tmp_path / "out")))
    page = tmp_path / "proof.md"
    for name in ("toy", "another", "zebra"):
        write_page(page, found | {"claims": [found["claims"][0] | {"name": name}]}, {}, f"foveal prove {name}")
    changed = found["claims"][0] | {"about": "Said otherwise."}
    write_page(page, found | {"claims": [changed]}, {}, "foveal prove toy --seeds 2")
    text = page.read_text()
    heads = [line.split()[1] for line in text.splitlines() if line.startswith("### ")]
    assert heads == ["another", "toy", "zebra"]
    for name, told in (
        ("another", "`foveal prove another`"),
        ("toy", "prove toy --seeds 2`"),
        ("zebra", "prove zebra`"),
    ):
        section = text.partition(f"### {name} ")[2].partition("### ")[0]
        assert told in section
        assert ("Said otherwise." in section) == (name == "toy")
    assert text.count("## Results") == 1
