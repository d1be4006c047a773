from __future__ import annotations

import base64
import hashlib
import re
import shutil
import subprocess
from html.parser import HTMLParser

import pytest
from PIL import Image as PILImage

import foveal
from foveal.models.scripted import Scripted
from foveal.view.folder import Folder
from foveal.view.report import _quotas, pick, write_report
from tests.view.build import Run, chat

EVIL = "</script><script>alert(1)</script><img src=x onerror=alert(2)>{{ 7*7 }}<!--"
STEPS = [{"name": "oasis", "step": "oasis", "kind": "row"}]


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[str, list[str]] = {}
        self.open: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.open.append(tag)

    def handle_endtag(self, tag):
        if tag in self.open:
            while self.open.pop() != tag:
                pass

    def handle_data(self, data):
        if self.open:
            self.text.setdefault(self.open[-1], []).append(data)

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for n in range(12):
        PILImage.new("RGB", (640, 400), (n * 20, 90, 200 - n * 10)).save(folder / f"{n:02}.png")
    (folder / "empty.png").touch()
    return folder


@pytest.fixture
def out(tmp_path, photos, oasis_model):
    foveal.run("oasis", photos, model=oasis_model, out=tmp_path / "out")
    return tmp_path / "out"


def test_the_page_is_complete_in_itself(out):
    path = write_report(out)
    assert path == out / "report.html"
    page = Page(path.read_text())
    for tag, attrs in page.tags:
        for name in ("src", "href", "action", "poster", "data"):
            assert (attrs.get(name) or "data:image/jpeg;base64,").startswith(("data:image/jpeg;base64,", "#")), (
                tag,
                attrs,
            )
        assert "style" not in attrs
        assert not [a for a in attrs if a.startswith("on")]
    assert not page.of("link")
    # Twelve pictures that can be read and one that cannot.
    assert len([i for i in page.of("img") if i["src"]]) == 12


def test_the_policy_allows_just_our_own_script_and_style(out):
    text = write_report(out).read_text()
    page = Page(text)
    policy = next(m["content"] for m in page.of("meta") if m.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; img-src data:; ")
    for tag in ("script", "style"):
        (inside,) = re.findall(rf"<{tag}>(.*?)</{tag}>", text, re.DOTALL)
        wanted = base64.b64encode(hashlib.sha256(inside.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{wanted}'" in policy


def test_what_models_write_is_only_text(tmp_path, photos):
    def say(request):
        return EVIL + " What is it?" if request.open_turn else request.choices[0] if request.choices else EVIL

    foveal.run(
        "oasis",
        photos,
        model=Scripted(say, identity=EVIL),
        out=tmp_path / "evil",
        sensible=1,
        grounded=1,
        clarity=1,
        solvable=1,
        both=1,
    )
    page = Page(write_report(tmp_path / "evil").read_text())
    assert len(page.of("script")) == 1
    assert all((i["src"] or "").startswith("data:") for i in page.of("img"))
    assert any(EVIL in t for t in page.text["pre"])
    assert "49" not in "".join(page.text["pre"])


def test_the_funnel_is_drawn_to_scale(tmp_path):
    with Run(tmp_path, steps=STEPS) as run:
        for n in range(8):
            source = run.source()
            if n < 5:
                run.make("oasis", source, [chat("Q?", "A.")])
            else:
                run.end("oasis", source, *(("dropped", "garbled") if n < 7 else ("failed", "refused")))
    page = Page(write_report(tmp_path).read_text())
    bars = [
        (r["class"], float(r["x"] or 0), float(r["width"] or 0))
        for r in page.of("rect")
        if r.get("x") and r.get("height") == "10"
    ]
    assert bars[:3] == [("fill-kept", 0, 62.5), ("fill-dropped", 62.5, 25), ("fill-failed", 87.5, 12.5)]


def test_the_page_stays_small(tmp_path):
    noise = PILImage.effect_noise((400, 400), 90).convert("RGB")
    noise.save(tmp_path / "noise.jpg", quality=95)
    data = (tmp_path / "noise.jpg").read_bytes()
    (tmp_path / "photos").mkdir()
    with Run(tmp_path / "out", steps=STEPS) as run:
        for n in range(70):
            (tmp_path / "photos" / f"{n}.jpg").write_bytes(data + bytes([n]))
            source = run.source((tmp_path / "photos" / f"{n}.jpg").read_bytes(), str(tmp_path / "photos" / f"{n}.jpg"))
            run.make("oasis", source, [chat("Q?", "A.")])
            for k in range(4):
                run.call(source, f"p{k}", "word " * 4000, f"{k} " * 4000)
    path = write_report(tmp_path / "out", gallery=70)
    assert 2e6 < path.stat().st_size < 5e6
    assert len(Page(path.read_text()).of("article")) < 70


def test_the_gallery_shows_some_of_every_reason(tmp_path):
    with Run(tmp_path, steps=STEPS) as run:
        for n in range(200):
            reason = ("dropped", "common") if n < 190 else ("dropped", "rare") if n < 191 else ("failed", "refused")
            run.end("oasis", run.source(), *reason)
    with Folder(tmp_path) as folder:
        shown = [(status, reason) for _, status, reason in pick(folder, 20)]
    assert len(shown) == 20
    assert shown.count(("dropped", "rare")) == 1
    assert shown.count(("failed", "refused")) >= 4


def test_quotas_fill_the_gallery_whatever_there_is():
    assert _quotas({"kept": 100, "dropped": 0, "failed": 0, "pending": 0}, 60)["kept"] == 60
    assert _quotas({"kept": 3, "dropped": 2, "failed": 1, "pending": 0}, 60) == {
        "kept": 3,
        "dropped": 2,
        "failed": 1,
        "pending": 0,
    }
    shared = _quotas({"kept": 1000, "dropped": 1000, "failed": 1000, "pending": 1000}, 60)
    assert (sum(shared.values()), shared["kept"]) == (60, 24)


@pytest.mark.parametrize("state", ["finished", "running", "stopped"])
def test_a_run_without_anything_still_has_a_page(tmp_path, state):
    with Run(tmp_path, steps=STEPS, state=state):
        pass
    assert "No records yet." in write_report(tmp_path).read_text()


@pytest.mark.chromium
def test_it_opens_in_a_browser(out):
    browser = next((b for b in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if b), None)
    if browser is None:
        pytest.skip("no Chromium here")
    quiet = ["--disable-background-networking", "--disable-component-update", "--disable-sync", "--no-first-run"]
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", *quiet, "--enable-logging=stderr", "--dump-dom"]
    done = subprocess.run(
        [*command, write_report(out).as_uri()], capture_output=True, text=True, timeout=120, check=True
    )
    assert "CONSOLE" not in done.stderr
    page = Page(done.stdout)
    bars = [r["class"] for r in page.of("rect") if (r.get("class") or "").startswith("fill-")]
    assert {"fill-kept", "fill-dropped", "fill-failed"} <= set(bars)
    # The script ran: its filters are there and have counted the cards.
    assert "hidden" not in next(d for d in page.of("div") if d.get("id") == "filters")
    assert f"{len(page.of('article'))} shown" in "".join(page.text["span"])
