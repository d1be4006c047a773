"""A real transformers model of random weights: in this process, behind our server, and behind `transformers serve`."""

from __future__ import annotations

import asyncio
import io
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from foveal.errors import ModelFailed, ModelSetupError
from foveal.models.connect import ModelSpec, connect
from foveal.models.serve import app
from foveal.models.wire import Message, Request
from foveal.record import Image
from tests.models.servers import backend, run

pytestmark = pytest.mark.torch
ROLES = ("<|user|>", "<|assistant|>", "<|end|>")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tests.models.tiny import make

    return make(tmp_path_factory.mktemp("tiny"))


def picture(red: int = 10) -> Image:
    import PIL.Image

    out = io.BytesIO()
    PIL.Image.new("RGB", (40, 30), (red, 99, 50)).save(out, "PNG")
    return Image.of(out.getvalue())


def asked(text: str | None = "What?", **more: Any) -> Request:
    sampling = {"temperature": 0.0, "max_tokens": 8, **more.pop("sampling", {})}
    parts = (picture(more.pop("red", 10)), *([text] if text else []))
    return Request((Message("user", parts),), open_turn=text is None, sampling=sampling, **more)


def with_model(folder: Path, work: Any) -> Any:
    async def all_of_it() -> Any:
        model = connect(ModelSpec(model=f"hf:{folder}"))
        await model.open(hooking=True)
        try:
            return await work(model)
        finally:
            await model.close()

    return run(all_of_it(), 120)


def test_answers_alone_and_in_a_batch_are_the_same(folder: Path) -> None:
    async def work(model: Any) -> None:
        alone = [await model.send(asked("Hm?" * (1 + i), red=9 * i)) for i in range(5)]
        together = await asyncio.gather(*(model.send(asked("Hm?" * (1 + i), red=9 * i)) for i in range(5)))
        assert [r.text for r in alone] == [r.text for r in together]
        assert alone[0].tokens_in == 1 + 4 + 3 + 1 + 1 and 0 < alone[0].tokens_out <= 8

    with_model(folder, work)


def test_the_open_turn_ends_before_the_assistants(folder: Path) -> None:
    async def work(model: Any) -> None:
        assert model.prompt_ids(asked(None), False) == model.encode("<|user|><image>")
        assert set(ROLES) <= set(model._stops())
        opened, closed = await model.send(asked(None)), await model.send(asked(""))
        assert opened.tokens_in == closed.tokens_in - 2
        assert not any(r in opened.text for r in ROLES)

    with_model(folder, work)


def test_choices_are_kept_to_and_have_probabilities(folder: Path) -> None:
    async def work(model: Any) -> None:
        for choices in (("1", "2", "3"), ("1", "2", "10"), ("instruction", "caption")):
            replies = await asyncio.gather(*(model.send(asked(f"Rate {i}", choices=choices)) for i in range(3)))
            for reply in replies:
                assert reply.text in choices
                assert reply.probs is None or 0 < sum(reply.probs.values()) <= 1.0001

    with_model(folder, work)


def test_sampling_is_seeded_and_stops(folder: Path) -> None:
    async def work(model: Any) -> None:
        warm = {"temperature": 1.0, "top_k": 20, "top_p": 0.9, "min_p": 0.01, "min_tokens": 2}
        one, two = [await model.send(asked(sampling=warm, seed=4)) for _ in range(2)]
        assert one.text == two.text
        letter = one.text[3]
        stopped = await model.send(asked(sampling={**warm, "stop": [letter]}, seed=4))
        assert letter not in stopped.text and stopped.finish == "stop"

    with_model(folder, work)


def test_what_it_cannot_take_fails_its_record(folder: Path) -> None:
    async def work(model: Any) -> None:
        broken = Request((Message("user", (Image.of(b"no picture"), "What?")),), sampling={"max_tokens": 2})
        with pytest.raises(Exception, match="picture"):
            await model.send(broken)
        with pytest.raises(ModelFailed, match="the model raised"):
            await model.send(Request((Message("user", (picture(), "<image>")),), sampling={"max_tokens": 2}))
        assert (await model.send(asked())).tokens_out

    with_model(folder, work)


def test_no_such_model(tmp_path: Path) -> None:
    async def work() -> None:
        await connect(f"hf:{tmp_path}").open(False)

    with pytest.raises(ModelSetupError, match="cannot load"):
        run(work(), 60)


def test_behind_our_own_server_the_whole_http_path_hooks(folder: Path) -> None:
    async def work() -> None:
        runner = web.AppRunner(app(connect(f"hf:{folder}")))
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        try:
            async with backend(f"http://127.0.0.1:{runner.addresses[0][1]}", hooking=True) as client:
                assert client.endpoints[0].hook.tail == ""  # type: ignore[union-attr]
                opened = await client.send(asked(None))
                assert not any(r in opened.text for r in ROLES) and opened.tokens_out
                chosen = await client.send(asked("Rate", choices=("1", "2", "3")))
                assert chosen.text in ("1", "2", "3")
        finally:
            await runner.cleanup()

    run(work(), 120)


@pytest.fixture(scope="module")
def transformers_serve(folder: Path) -> Iterator[str]:
    pytest.importorskip("uvicorn")
    pytest.importorskip("openai")
    pytest.importorskip("accelerate")
    port = "18765"
    command = [
        sys.executable,
        "-c",
        "from transformers.cli.transformers import main; main()",
        "serve",
        "--port",
        port,
        "--host",
        "127.0.0.1",
    ]
    (cache := folder / "hub").mkdir()
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HUB_CACHE": str(cache), "CUDA_VISIBLE_DEVICES": ""}
    server = subprocess.Popen([*command, str(folder)], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(240):
            if server.poll() is not None:
                pytest.skip("transformers serve does not start here")
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1)
                break
            except OSError:
                time.sleep(0.5)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        server.wait(10)


def test_transformers_serve_answers_instead_of_continuing_and_is_refused(transformers_serve: str, folder: Path) -> None:
    async def plain() -> str:
        async with backend(transformers_serve, model=str(folder)) as client:
            return (await client.send(asked())).text

    async def hooked() -> None:
        async with backend(transformers_serve, model=str(folder), hooking=True):
            pass

    assert isinstance(run(plain(), 120), str)
    with pytest.raises(ModelSetupError, match="cannot leave the user's turn open"):
        run(hooked(), 120)
