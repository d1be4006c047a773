"""The command line: one sentence and an exit code for whatever goes wrong, and nothing paid by mistake."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from conftest import make_pictures
from foveal.cli import ALL_FAILED, BAD_SETUP, STOPPED, main
from foveal.errors import StoreError
from foveal.store import connect

RULES = """
- {match: hook, say: "What is this?"}
- {match: "instruction or a caption", say: instruction}
- {match: "number from 1 to 5", say: "5"}
- {match: ".", say: "A thing."}
"""
SLOW = """
import sys
from foveal import cli
from foveal.models import connect, scripted
scripted.Scripted.delay = {delay}
scripted.Scripted.slots = {slots}
load = scripted.Scripted.load.__func__
def slow(cls, path):
    model = load(cls, path)
    model.delay, model.slots = {delay}, {slots}
    return model
scripted.Scripted.load = classmethod(slow)
{before}
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Work in a folder with 6 pictures in photos/ and a script of answers."""
    monkeypatch.chdir(tmp_path)
    make_pictures(tmp_path / "photos", 6)
    (tmp_path / "s.yaml").write_text(RULES)
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


RUN = ("run", "oasis", "photos", "--model", "scripted:s.yaml", "--quiet")

# --- bad set-ups ---------------------------------------------------------------------------------------------------

BAD: list[tuple[tuple[str, ...], str]] = [
    (("run", "oasis", "empty"), "empty holds nothing"),
    (("run", "oasis", "texts"), "texts holds no pictures"),
    (("run", "oasis", "nowhere"), "nowhere"),
    (("run", "oasis", "photos/*.gif"), "nothing matches photos/*.gif"),
    (("run", "oasis"), "no source: say which pictures"),
    (("run", "oasys", "photos"), "did you mean 'oasis'"),
    (("run", "nope.yaml", "photos"), "cannot read recipe nope.yaml"),
    (("run", "bad.yaml", "photos"), "recipe bad.yaml: stepz: Extra inputs are not permitted; did you mean 'steps'"),
    (("run", "none.py:f", "photos"), "no file"),
    ((*RUN, "--set", "clarty=4"), "did you mean 'clarity'"),
    ((*RUN, "--set", "clarity=high"), "clarity='high' does not fit"),
    ((*RUN, "--set", "clarity"), "--set takes knob=value"),
    ((*RUN, "--vml", "scripted:s.yaml"), "no step has a role 'vml'; did you mean 'vlm'"),
    ((*RUN, "--vlm"), "unknown option --vlm"),
    ((*RUN, "--limt", "3"), "unknown option --limt; did you mean '--limit'"),
    ((*RUN, "--limt=3"), "unknown option --limt; did you mean '--limit'"),
    ((*RUN, "more"), "unknown option more"),
    ((*RUN, "--export", "llva"), "did you mean 'llava'"),
    ((*RUN, "--price", "1"), "--price takes two numbers"),
    ((*RUN, "--price", "a,b"), "--price takes two numbers"),
    ((*RUN, "--price=1,2,3"), "--price takes two numbers"),
    ((*RUN, "--limit", "0"), "limit: "),
    ((*RUN, "--limit", "-1"), "limit: "),
    ((*RUN, "--max-calls", "-1"), "budget.calls: "),
    ((*RUN, "--concurrency", "0"), "concurrency: "),
    ((*RUN, "--timeout", "-1"), "timeout: "),
    ((*RUN, "--prompts", "nowhere"), "no folder of prompts at nowhere"),
    ((*RUN, "-o", "s.yaml"), "cannot make the folder s.yaml"),
    ((*RUN, "-o", "s.yaml/out"), "cannot make the folder s.yaml/out"),
    ((*RUN, "-o", "photos"), "photos holds other files"),
    ((*RUN, "--store", "nowhere/at/all"), "nowhere/at/all"),
    (("run", "oasis", "photos", "--model", "scripted:none.yaml"), "none.yaml"),
    (("run", "oasis", "photos", "--model", "smal"), "'smal' needs a url"),
    (("run", "oasis", "photos", "--model", "http://127.0.0.1:9/v1"), "no server answers at http://127.0.0.1:9/v1"),
    (("preview", "oasis", "photos", "-n", "0"), "limit: "),
    (("show", "photos"), "photos is not a run folder"),
    (("show", "nowhere"), "nowhere is not a run folder"),
    (("show", "photos", "--jsn"), "unknown option --jsn; did you mean '--json'"),
    (("export", "photos", "--to", "llava"), "photos is not a run folder"),
    (("export", "photos", "--to", "lava"), "did you mean 'llava'"),
    (("methods", "oasys"), "did you mean 'oasis'"),
    (("runn", "oasis"), "invalid choice: 'runn'"),
    ((), "required"),
]


@pytest.mark.parametrize(("words", "said"), BAD, ids=[" ".join(w[-3:]) for w, _ in BAD])
def test_a_bad_set_up_is_one_sentence(foveal: Say, here: Path, words: tuple[str, ...], said: str) -> None:
    (here / "empty").mkdir()
    (here / "texts").mkdir()
    (here / "texts" / "a.txt").write_text("a")
    (here / "bad.yaml").write_text("name: x\nsteps: [oasis]\nstepz: 1\n")
    code, _, told = foveal(*words)
    assert code == BAD_SETUP
    assert said in told
    assert "Traceback" not in told
    assert len([line for line in told.splitlines() if line.startswith("foveal: ")]) == 1
    assert not (here / "out" / "rows.jsonl").exists()


def test_a_read_only_folder(foveal: Say, here: Path) -> None:
    foveal(*RUN, "-o", "warm")
    for folder in (here, *here.parents[:2]):
        folder.chmod(0o755)
    (here / "out").mkdir(mode=0o555)
    before = os.geteuid()
    try:
        if before == 0:
            os.seteuid(65534)  # root writes everywhere
        code, _, told = foveal(*RUN)
    finally:
        os.seteuid(before)
    assert (code, told) == (BAD_SETUP, "foveal: cannot write to out: Permission denied\n")


# --- bad pictures --------------------------------------------------------------------------------------------------


def chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def huge_png(side: int) -> bytes:
    head = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")
    )


def test_a_bad_picture_is_a_failed_record_and_harms_no_other(foveal: Say, here: Path) -> None:
    good = (here / "photos" / "p00003.png").read_bytes()
    bad = {
        "zero.png": (b"", "picture empty"),
        "half.png": (good[: len(good) // 2], "picture truncated"),
        "text.jpg": (b"This is no picture.", "not a picture"),
        "huge.png": (huge_png(20_000), "picture too large"),
        "page.png": (b"<html>404</html>", "not a picture"),
        "stub.jpg": (b"\xff\xd8\xff\xe0", "picture truncated"),
    }
    for name, (data, _) in bad.items():
        (here / "photos" / name).write_bytes(data)
    (here / "photos" / "lies.jpg").write_bytes(bad_ending := (here / "photos" / "p00005.png").read_bytes() + b"")
    (here / "photos" / "p00005.png").unlink()
    (here / "photos" / os.fsdecode(b"\xff\xfe.png")).write_bytes(
        make_pictures(here / "other", 1, 99).joinpath("p00099.png").read_bytes()
    )
    assert bad_ending.startswith(b"\x89PNG")  # a PNG named .jpg is what it is: read
    code, out, _ = foveal(*RUN, "--json")
    records = json.loads(out)["records"]
    causes: dict[str, int] = {}
    for _, cause in bad.values():
        causes[cause] = causes.get(cause, 0) + 1
    assert (code, records["kept"], records["failed"]) == (0, 7, causes)
    assert records["all"] == 13
    code, out, _ = foveal(*RUN, "--json")
    assert json.loads(out)["records"] == records


def test_nothing_but_bad_pictures(foveal: Say, here: Path) -> None:
    for path in (here / "photos").iterdir():
        path.write_bytes(b"no picture" + path.name.encode())
    assert foveal(*RUN)[0] == ALL_FAILED


# --- stopping ------------------------------------------------------------------------------------------------------


def start(*words: str, delay: float = 0.02, slots: int = 4, before: str = "") -> subprocess.Popen[str]:
    code = SLOW.format(delay=delay, slots=slots, before=before)
    return subprocess.Popen(
        [sys.executable, "-c", code, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def calls(folder: Path) -> int:
    try:
        with sqlite3.connect(f"file:{folder / 'store.db'}?mode=ro", uri=True) as db:
            return int(db.execute("SELECT count(*) FROM calls").fetchone()[0])
    except sqlite3.Error:
        return 0


def wait_for_calls(process: subprocess.Popen[str], folder: Path, count: int) -> None:
    until = time.monotonic() + 30
    while calls(folder) < count:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.fixture
def whole(foveal: Say, here: Path) -> tuple[int, bytes]:
    """Return what an undisturbed run on 20 pictures pays and makes."""
    make_pictures(here / "photos", 20)
    summary = json.loads(foveal(*RUN, "--json", "-o", "whole")[1])
    return summary["calls"]["made"], (here / "whole" / "rows.jsonl").read_bytes()


def paid(folder: Path) -> int:
    """Return the calls that foveal finds, those that lie in the journal included."""
    try:
        with closing(connect(folder / "store.db", read_only=True)) as db:
            return int(db.execute("SELECT count(*) FROM calls").fetchone()[0])
    except StoreError:
        return 0


def continues(foveal: Say, here: Path, whole: tuple[int, bytes]) -> bool:
    before = paid(here / "out")
    code, out, _ = foveal(*RUN, "--json")
    assert json.loads(out)["calls"]["made"] == whole[0] - before
    return code == 0 and (here / "out" / "rows.jsonl").read_bytes() == whole[1]


def test_sigterm_waits_for_what_is_paid(foveal: Say, here: Path, whole: tuple[int, bytes]) -> None:
    process = start(*RUN)
    wait_for_calls(process, here / "out", 20)
    process.send_signal(signal.SIGTERM)
    out, told = process.communicate(timeout=20)
    assert process.returncode == STOPPED
    assert "stopped on request; the same command continues it" in out + told
    assert "Traceback" not in told
    assert json.loads(foveal("show", "--json")[1])["state"] == "stopped"
    assert continues(foveal, here, whole)


def test_a_second_signal_stops_at_once(foveal: Say, here: Path, whole: tuple[int, bytes]) -> None:
    process = start(*RUN, before=HANG)
    wait_for_calls(process, here / "out", 10)
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    assert process.poll() is None  # waits for calls that never end
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    _, told = process.communicate(timeout=20)
    assert time.monotonic() - began < 10
    assert process.returncode == STOPPED
    assert "Traceback" not in told
    assert continues(foveal, here, whole)


HANG = """
import asyncio
send = scripted.Scripted.send
async def hangs(self, request):
    if len(self.asked) > 12:
        await asyncio.sleep(3600)
    return await send(self, request)
scripted.Scripted.send = hangs
"""


def test_two_runs_at_once(foveal: Say, here: Path) -> None:
    process = start(*RUN, before=HANG)
    try:
        wait_for_calls(process, here / "out", 5)
        code, _, told = foveal(*RUN)
        shown, _, _ = foveal("show")  # looking is allowed
    finally:
        process.kill()
        process.communicate()
    assert (code, shown) == (BAD_SETUP, 0)
    assert "another process is writing out" in told


@pytest.mark.parametrize(
    "limit", [("--max-calls", "30"), ("--max-tokens", "900"), ("--max-cost", "0.0003"), ("--max-time", "0")]
)
def test_a_budget_stops_and_continues(
    foveal: Say, here: Path, whole: tuple[int, bytes], limit: tuple[str, str]
) -> None:
    code, out, told = foveal(*RUN, "--price", "1,1", *limit)
    assert code == STOPPED
    assert f"{limit[0]} {float(limit[1]):g} is reached" in out + told
    assert calls(here / "out") < whole[0]
    assert continues(foveal, here, whole)


# --- a full disk ---------------------------------------------------------------------------------------------------

FULL = """
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, resource.RLIM_INFINITY))
"""


@pytest.mark.parametrize("size", [4096, 100_000])
def test_a_full_disk_is_told_and_continued(foveal: Say, here: Path, whole: tuple[int, bytes], size: int) -> None:
    process = start(*RUN, delay=0, before=FULL.format(size=size))
    out, told = process.communicate(timeout=40)
    assert process.returncode in (STOPPED, BAD_SETUP), out + told
    assert "room" in out + told
    assert "Traceback" not in told
    assert continues(foveal, here, whole)


@pytest.fixture
def small_disk(here: Path) -> Iterator[Path]:
    """Mount a file system of 200 kB; only root can."""
    (here / "out").mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(here / "out")]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("cannot mount")
    yield here / "out"
    subprocess.run(["umount", str(here / "out")], check=True)


def test_a_disk_that_is_really_full(foveal: Say, here: Path, small_disk: Path) -> None:
    make_pictures(here / "photos", 60)
    process = start(*RUN, delay=0)
    out, told = process.communicate(timeout=40)
    assert process.returncode == STOPPED, out + told
    assert "room" in out + told
    assert "Traceback" not in told
    subprocess.run(["mount", "-o", "remount,size=20m", str(small_disk)], check=True)
    before = paid(small_disk)
    code, out, _ = foveal(*RUN, "--json")
    summary = json.loads(out)
    assert (code, summary["rows"]) == (0, 60)
    assert summary["calls"]["made"] + before == 60 * 6


# --- what is printed -----------------------------------------------------------------------------------------------


def keys(value: object, depth: int = 2) -> object:
    if not isinstance(value, dict) or depth == 0:
        return type(value).__name__
    return {k: keys(v, depth - 1) for k, v in value.items()}


def test_json_for_scripts_is_stable(foveal: Say) -> None:
    code, out, _ = foveal(*RUN, "--json")
    assert code == 0
    assert keys(json.loads(out)) == {
        "name": "str", "run": "int", "state": "str", "note": "str",
        "records": {"all": "int", "kept": "int", "dropped": "dict", "failed": "dict", "pending": "int"},
        "rows": "int", "calls": {"made": "int", "remembered": "int"}, "tokens": {"in": "int", "out": "int"},
        "cost": "NoneType", "unpriced": "int", "seconds": "float", "by": "list", "steps": "list", "losses": {},
    }  # fmt: skip
    assert json.loads(foveal("show", "--json")[1]) == json.loads(out)
    (method,) = [m for m in json.loads(foveal("methods", "--json")[1]) if m["name"] == "oasis"]
    assert {"name", "kind", "paper", "roles", "knobs"} <= set(method)
    assert (method["kind"], method["paper"], method["roles"]) == ("chat", "2503.08741", ["vlm", "llm"])
    assert method["knobs"]["clarity"] == {"type": "float", "default": 3}
    estimate = json.loads(foveal("preview", "oasis", "photos", "-n", "2", "--model", "scripted:s.yaml", "--json")[1])
    assert estimate["total"] == 6


def test_a_rerun_remembers(foveal: Say) -> None:
    first, again = (json.loads(foveal(*RUN, "--json")[1]) for _ in range(2))
    assert (first["calls"]["made"], again["calls"]["made"]) == (36, 0)
    assert first["rows"] == again["rows"] == 6


def test_exports_on_the_way(foveal: Say, here: Path) -> None:
    code, out, _ = foveal(*RUN, "--export", "llava,openai")
    assert code == 0
    assert "llava: 6 rows in out/export/llava" in out
    assert (here / "out" / "export" / "openai").is_dir()
    code, out, _ = foveal("export", "--to", "sharegpt", "-o", "elsewhere")
    assert (code, (here / "elsewhere" / "sharegpt").is_dir()) == (0, True)


def test_one_record_with_its_history(foveal: Say, here: Path) -> None:
    foveal(*RUN)
    id_ = json.loads((here / "out" / "rows.jsonl").read_text().splitlines()[0])["id"]
    assert "What is this?" in foveal("show", "--record", id_[:8])[1]
    assert json.loads(foveal("show", "--record", id_, "--json")[1])
    assert foveal("show", "--record", "f" * 32)[0] == BAD_SETUP


def test_a_reader_that_goes_away_is_no_error(foveal: Say) -> None:
    foveal(*RUN)
    done = subprocess.run(f"{sys.executable} -m foveal.cli show | true", shell=True, capture_output=True, text=True)
    assert done.stderr == ""


LISTS_MODULES = """
import sys, foveal.cli
try:
    foveal.cli.main(["run", "--help"])
except SystemExit:
    print(*sys.modules, file=sys.stderr)
"""


def test_help_is_quick() -> None:
    done = subprocess.run([sys.executable, "-c", LISTS_MODULES], capture_output=True, text=True, check=True)
    assert "--max-calls" in done.stdout
    slow = {"pydantic", "aiohttp", "jinja2", "PIL", "rich", "numpy", "yaml", "orjson", "asyncio"}
    assert "foveal.cli" in done.stderr.split()
    assert not slow & set(done.stderr.split())


def test_no_secret_reaches_the_run_folder(foveal: Say, here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = "sk-Hidden42-do-not-write"
    for name in ("OPENAI_API_KEY", "FOVEAL_API_KEY", "MY_KEY", "HF_TOKEN"):
        monkeypatch.setenv(name, secret)
    code, out, told = foveal(*RUN, "--key-env", "MY_KEY", "--json", "--export", "llava,openai")
    assert code == 0
    foveal("run", "oasis", "photos", "-o", "other", "--model", f"http://me:{secret}@127.0.0.1:9/v1", "--quiet")
    assert secret not in out + told + "".join(foveal("show")[1:])
    for path in [*(here / "out").rglob("*"), *(here / "other").rglob("*")]:
        assert path.is_dir() or secret.encode() not in path.read_bytes(), path
