"""A real llama.cpp server on random weights, where FOVEAL_LLAMA_SERVER names its program: scripts/test-consumers."""

from __future__ import annotations

import os
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from foveal.errors import ModelSetupError
from foveal.models.hooks import probe_image
from foveal.models.wire import Message, Request
from tests.models.servers import backend, run

pytestmark = pytest.mark.slow
SERVER = os.environ.get("FOVEAL_LLAMA_SERVER", "")
if not SERVER:
    pytest.skip("FOVEAL_LLAMA_SERVER is not set: scripts/test-consumers runs this", allow_module_level=True)
SPECIAL = ["<pad>", "<unk>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>", "<image>"]
TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|end|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
WIDE, DEEP, EYE = 64, 128, 32


def alphabet() -> list[str]:
    """Return the 256 letters of byte-level BPE."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [b for b in range(256) if b not in shown]
    letters = {b: chr(b) for b in shown} | {b: chr(256 + i) for i, b in enumerate(hidden)}
    return [letters[b] for b in range(256)]


class Weights:
    """Writes tensors of random numbers."""

    def __init__(self, path: Path, kind: str) -> None:
        import gguf
        import numpy

        self.out = gguf.GGUFWriter(str(path), kind)
        self._random, self._ones = numpy.random.default_rng(0), numpy.ones

    def random(self, *names: str, shape: tuple[int, ...]) -> None:
        for name in names:
            self.out.add_tensor(name, self._random.normal(0, 0.05, shape).astype("float32"))

    def ones(self, *names: str, size: int) -> None:
        for name in names:
            self.out.add_tensor(name, self._ones(size, "float32"))

    def close(self) -> None:
        self.out.write_header_to_file()
        self.out.write_kv_data_to_file()
        self.out.write_tensors_to_file()
        self.out.close()


def write_text(path: Path) -> None:
    import gguf

    tokens = [*SPECIAL, *alphabet(), "th"]
    weights = Weights(path, "llama")
    out = weights.out
    for add, value in (
        (out.add_context_length, 512), (out.add_embedding_length, WIDE), (out.add_block_count, 2),
        (out.add_feed_forward_length, DEEP), (out.add_head_count, 4), (out.add_head_count_kv, 4),
        (out.add_layer_norm_rms_eps, 1e-5), (out.add_rope_dimension_count, 16), (out.add_vocab_size, len(tokens)),
        (out.add_tokenizer_model, "gpt2"), (out.add_tokenizer_pre, "gpt-2"), (out.add_token_list, tokens),
        (out.add_token_merges, ["t h"]), (out.add_eos_token_id, 2), (out.add_add_bos_token, False),
        (out.add_chat_template, TEMPLATE),
    ):  # fmt: skip
        add(value)  # type: ignore[operator]
    out.add_token_types([gguf.TokenType.CONTROL] * 7 + [gguf.TokenType.NORMAL] * (len(tokens) - 7))
    weights.random("token_embd.weight", "output.weight", shape=(len(tokens), WIDE))
    weights.ones("output_norm.weight", size=WIDE)
    for block in ("blk.0.", "blk.1."):
        weights.ones(block + "attn_norm.weight", block + "ffn_norm.weight", size=WIDE)
        weights.random(*(f"{block}attn_{n}.weight" for n in ("q", "k", "v", "output")), shape=(WIDE, WIDE))
        weights.random(block + "ffn_gate.weight", block + "ffn_up.weight", shape=(DEEP, WIDE))
        weights.random(block + "ffn_down.weight", shape=(WIDE, DEEP))
    weights.close()


def write_eye(path: Path) -> None:
    weights = Weights(path, "clip")
    out = weights.out
    out.add_bool("clip.has_vision_encoder", True)
    out.add_bool("clip.use_gelu", True)
    out.add_string("clip.projector_type", "mlp")
    sizes = {"image_size": 56, "patch_size": 14, "embedding_length": EYE, "feed_forward_length": 64, "block_count": 2}
    for name, value in {**sizes, "projection_dim": WIDE, "attention.head_count": 2}.items():
        out.add_uint32(f"clip.vision.{name}", value)
    out.add_float32("clip.vision.attention.layer_norm_epsilon", 1e-5)
    for name in ("image_mean", "image_std"):
        out.add_array(f"clip.vision.{name}", [0.5, 0.5, 0.5])
    weights.random("v.patch_embd.weight", shape=(EYE, 3, 14, 14))
    weights.random("v.class_embd", shape=(EYE,))
    weights.random("v.position_embd.weight", shape=(17, EYE))
    for norm in ("v.pre_ln", "v.post_ln", *(f"v.blk.{i}.ln{n}" for i in (0, 1) for n in (1, 2))):
        weights.ones(norm + ".weight", size=EYE)
        weights.random(norm + ".bias", shape=(EYE,))
    for block in ("v.blk.0.", "v.blk.1."):
        for name in ("attn_q", "attn_k", "attn_v", "attn_out"):
            weights.random(f"{block}{name}.weight", shape=(EYE, EYE))
            weights.random(f"{block}{name}.bias", shape=(EYE,))
        weights.random(block + "ffn_down.weight", shape=(64, EYE))  # the format's old order of names
        weights.random(block + "ffn_down.bias", shape=(64,))
        weights.random(block + "ffn_up.weight", shape=(EYE, 64))
        weights.random(block + "ffn_up.bias", shape=(EYE,))
    weights.random("mm.0.weight", shape=(WIDE, EYE))
    weights.random("mm.2.weight", shape=(WIDE, WIDE))
    weights.random("mm.0.bias", "mm.2.bias", shape=(WIDE,))
    weights.close()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("gguf")
    write_text(folder / "text.gguf")
    write_eye(folder / "eye.gguf")
    files = ["-m", str(folder / "text.gguf"), "--mmproj", str(folder / "eye.gguf")]
    command = [SERVER, *files, "--host", "127.0.0.1", "--port", "18778", "-c", "2048", "-t", "1"]
    program = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(60):
            try:
                urllib.request.urlopen("http://127.0.0.1:18778/health", timeout=1)
                break
            except OSError:
                time.sleep(0.5)
        yield "http://127.0.0.1:18778/v1"
    finally:
        program.terminate()
        program.wait(10)


def asked(text: str, **more: Any) -> Request:
    sampling = {"temperature": 0.0, "max_tokens": 24}
    parts = (probe_image(), text) if text else (probe_image(),)
    return Request((Message("user", parts),), open_turn=not text, sampling=sampling, **more)


def test_it_hooks_by_its_native_route(server: str) -> None:
    async def work() -> None:
        async with backend(server, hooking=True) as model:
            assert model.endpoints[0].dialect.server == "llamacpp"
            opened, closed = await model.send(asked("")), await model.send(asked("\n"))
            assert opened.tokens_out and closed.tokens_in - opened.tokens_in == 2
            assert (await model.send(asked("Which?", choices=("yes", "no")))).text in ("yes", "no")

    run(work(), 60)


@pytest.mark.parametrize("dialect", ["vllm", "unknown"])
def test_its_chat_endpoint_is_refused(server: str, dialect: str) -> None:
    async def work() -> None:
        async with backend(server, hooking=True, dialect=dialect):
            pass

    with pytest.raises(ModelSetupError, match="cannot leave the user's turn open"):
        run(work(), 60)
