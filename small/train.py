"""Train the embedded model from packages alone.

    python small/train.py --out build/small            # everything: pictures, features, tokenizer, weights, card's figures

Needs torch, transformers, tokenizers, onnx, onnxruntime, safetensors, resvg-py and foveal itself; apt-get and npm fetch the pictures.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from safetensors.torch import load_file, save_file
from torch.nn import functional as f

import features
import train_tokenizer
from foveal.models.small.tokenizer import IMAGE, Tokenizer
from foveal.scrapbook.scene import Scene, looks
from foveal.scrapbook.truth import plural
from net import Net, Shape, shuffled
from pack import Batch, batch
from tasks import lesson

PARTS = {"train1": range(1600, 8000), "pilot": range(0, 1600)}
"""Seeds of the training scenes; the held-out ones start at a million (new scenes) and two (looks never seen)."""
HELD = {"seen": (range(1_000_000, 1_000_600), "train"), "unseen": (range(2_000_000, 2_000_600), "held")}
NOUNS = sorted({look.noun for look in looks()})


class Data:
    """Features (float16, memory-mapped), scenes and cells of some parts, as one sequence."""

    def __init__(self, folder: Path, names: list[str]) -> None:
        self.parts = [np.load(folder / f"{n}.npy", mmap_mode="r") for n in names]
        self.scenes: list[Scene] = [s for n in names for s in features.scenes(folder, n)]
        cells = np.concatenate([np.load(folder / f"{n}.cells.npy") for n in names])
        nouns = np.array([[NOUNS.index(t.noun) for t in s.things] + [0] * (3 - len(s.things)) for s in self.scenes])
        named = np.take_along_axis(nouns, np.maximum(cells, 0).astype(int), 1)
        self.labels = torch.from_numpy(np.where(cells >= 0, named + 1, 0))
        self.present = torch.zeros(len(self.scenes), len(NOUNS))
        for i, scene in enumerate(self.scenes):
            self.present[i, [NOUNS.index(t.noun) for t in scene.things]] = 1
        self.index = [(p, i) for p, part in enumerate(self.parts) for i in range(len(part))]

    def patches(self, rows: list[int]) -> torch.Tensor:
        """Return the features of rows, four patches to a token."""
        found = np.stack([self.parts[p][i] for p, i in (self.index[r] for r in rows)]).astype(np.float32)
        return shuffled(torch.from_numpy(found))


class Helpers(torch.nn.Module):
    """Losses that only training knows: each image token names what covers it, in the decoder's own words, and where it is."""

    def __init__(self, tokenizer: Tokenizer, width: int) -> None:
        super().__init__()
        self.words = [tokenizer.encode(" " + noun)[-1] for noun in NOUNS]
        self.nothing = torch.nn.Parameter(torch.zeros(1, width))
        self.sharp = torch.nn.Parameter(torch.tensor(8.0))
        self.place = torch.nn.Linear(width, 36)
        self.there = torch.nn.Linear(width, 1)
        self.noun = torch.full((tokenizer.size,), -1)
        for i, noun in enumerate(NOUNS):
            for form in (noun, plural(noun)):
                if len(ids := tokenizer.encode(" " + form)) == 1:
                    self.noun[ids[0]] = i

    def forward(self, net: Net, image: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the losses of naming and of placing."""
        table = torch.cat((self.nothing, net.embed_tokens.weight[self.words]))
        scores = f.normalize(image, dim=-1) @ f.normalize(table, dim=-1).T * self.sharp
        where = torch.arange(36).expand(len(image), 36)
        naming = f.cross_entropy(scores.flatten(0, 1), labels.flatten())
        return naming, f.cross_entropy(self.place(image).flatten(0, 1), where.flatten())

    def presence(self, middle: torch.Tensor, b: Batch, present: torch.Tensor) -> torch.Tensor:
        """Return the loss of telling, at each noun of a talk that sees the picture, whether it is there."""
        noun = self.noun[torch.from_numpy(b.ids)]
        at = (noun >= 0) & torch.from_numpy((b.sees > 0) & (b.talk > 0))
        truth = present[at.nonzero()[:, 0], noun[at]]
        return f.binary_cross_entropy_with_logits(self.there(middle[at])[:, 0], truth)


def warm_up(net: Net, helpers: Helpers, data: Data, epochs: int, log: Log | None, rank: int, workers: int) -> None:
    """Teach the projector alone to name its tokens: cheap, and it makes the words of the decoder mean something to it."""
    parameters = [*net.projector.parameters(), net.embed_tokens.weight, *helpers.parameters()]
    steps = epochs * (len(data.scenes) // workers // 32)
    step = 0
    optimizer = torch.optim.AdamW(parameters, 1e-3, weight_decay=0.05)
    for epoch in range(epochs):
        order = random.Random(epoch).sample(range(len(data.scenes)), len(data.scenes))[rank::workers]
        total = 0.0
        for i in range(0, len(order) - 31, 32):
            rate(optimizer, 2e-3 * min(1, step / 100) * (1 - 0.9 * step / steps))
            rows = order[i : i + 32]
            naming, placing = helpers(net, net.projector(data.patches(rows)), data.labels[rows])
            optimizer.zero_grad()
            (naming + 0.2 * placing).backward()
            averaged(parameters)
            optimizer.step()
            total += float(naming.detach())
            step += 1
        if log is not None:
            log.write(phase="projector", epoch=epoch, naming=total * 32 / len(order))


def rate(optimizer: torch.optim.Optimizer, value: float) -> None:
    """Set the learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = value


def mask(b: Batch) -> torch.Tensor:
    """Return which token may look at which: its own conversation so far, and the picture if it was shown."""
    talk, sees = torch.from_numpy(b.talk), torch.from_numpy(b.sees).bool()
    n = talk.shape[1]
    before = torch.ones(n, n, dtype=torch.bool).tril()
    same = talk[:, :, None] == talk[:, None, :]
    picture = (talk[:, None, :] == 0) & sees[:, :, None] & (talk[:, :, None] > 0)
    return (before & (same | picture))[:, None]


class Log:
    """Lines of JSON, to the screen and to a file."""

    def __init__(self, path: Path) -> None:
        self.path, self.start = path, time.time()

    def write(self, **values: object) -> None:
        """Write one line."""
        line = json.dumps(
            {"minutes": round((time.time() - self.start) / 60, 2)}
            | {k: round(v, 4) if isinstance(v, float) else v for k, v in values.items()}
        )
        print(line, flush=True)
        with self.path.open("a") as file:
            file.write(line + "\n")


def averaged(parameters: Sequence[torch.nn.Parameter]) -> None:
    """Average the gradients over the workers."""
    if dist.is_initialized():
        flat = torch.cat([p.grad.flatten() for p in parameters if p.grad is not None])
        dist.all_reduce(flat)
        flat /= dist.get_world_size()
        for p in parameters:
            if p.grad is not None:
                p.grad.copy_(flat[: p.numel()].view_as(p))
                flat = flat[p.numel() :]


def batches(data: Data, tokenizer: Tokenizer, size: int, rank: int, workers: int) -> Iterator[tuple[list[int], Batch]]:
    """Yield this worker's batches without end, each made while the one before is learned."""

    def made(step: int, rows: list[int]) -> tuple[list[int], Batch]:
        return rows, batch([data.scenes[r] for r in rows], step, NOUNS, tokenizer)

    def chosen() -> Iterator[tuple[int, list[int]]]:
        rng, order, step = random.Random(0), [], 0
        while True:
            if len(order) < size * workers:
                order = rng.sample(range(len(data.scenes)), len(data.scenes))
            rows = [order.pop() for _ in range(size * workers)]
            yield step, rows[rank::workers]
            step += 1

    jobs = chosen()
    with ThreadPoolExecutor(1) as thread:
        ahead = thread.submit(made, *next(jobs))
        while True:
            ready = ahead.result()
            ahead = thread.submit(made, *next(jobs))
            yield ready


def train(
    net: Net, helpers: Helpers, data: Data, tokenizer: Tokenizer, args: argparse.Namespace, log: Log | None, rank: int
) -> None:
    """Train everything on the lessons until the minutes are spent; the rate falls with them."""
    parameters = [*net.parameters(), *helpers.parameters()]
    optimizer = torch.optim.AdamW(parameters, args.rate, betas=(0.9, 0.95), weight_decay=0.05)
    start, seen, spent = time.time(), {"loss": 0.0, "naming": 0.0, "presence": 0.0}, 0
    for step, (rows, b) in enumerate(batches(data, tokenizer, args.size // args.workers, rank, args.workers)):
        done = shared(max(step / args.steps, (time.time() - start) / (60 * args.minutes)))
        if done >= 1:
            break
        rate(optimizer, args.rate * min(1, (step + 1) / 80) * (0.03 + 0.97 * (0.5 + 0.5 * math.cos(math.pi * done))))
        image = net.projector(data.patches(rows))
        ids = torch.from_numpy(b.ids)
        hidden, middle = net(ids, image, torch.from_numpy(b.positions), mask(b), ids == tokenizer.ids[IMAGE])
        weight = torch.from_numpy(b.weight)
        at = weight > 0
        each = f.cross_entropy(net.logits(hidden[at]), torch.from_numpy(b.target)[at], reduction="none")
        loss = (each * weight[at]).sum() / weight[at].sum()
        naming, placing = helpers(net, image, data.labels[rows])
        optimizer.zero_grad()
        there = helpers.presence(middle, b, data.present[rows])
        (loss + 0.3 * naming + 0.05 * placing + 0.5 * there).backward()
        averaged(parameters)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        seen["loss"] += float(loss.detach())
        seen["naming"] += float(naming.detach())
        seen["presence"] += float(there.detach())
        spent += b.ids.size * args.workers
        if log is not None and (step + 1) % 25 == 0:
            log.write(phase="decoder", step=step + 1, **{k: v / 25 for k, v in seen.items()}, tokens=spent)
            seen = dict.fromkeys(seen, 0.0)
        if log is not None and (step + 1) % 100 == 0:
            write(net, args.out)
    if log is not None:
        write(net, args.out)


def shared(value: float) -> float:
    """Return the first worker's value: all must stop at the same step."""
    if not dist.is_initialized():
        return value
    tensor = torch.tensor([value])
    dist.broadcast(tensor, 0)
    return float(tensor)


def write(net: Net, path: Path) -> None:
    """Write the weights as bf16 safetensors."""
    state = {name: p.detach().to(torch.bfloat16).contiguous() for name, p in net.state_dict().items()}
    save_file(state, str(path / "model.safetensors"), metadata={"shape": json.dumps(net.shape.as_dict())})


def make_tokenizer(folder: Path, scenes: list[Scene]) -> Tokenizer:
    """Train the tokenizer on the lessons of some scenes."""
    path = folder / "tokenizer.json"
    if not path.exists():
        rng = random.Random(2)
        texts = [turn.text for s in scenes[:1600] for talk in lesson(s, rng, NOUNS) for turn in talk.turns]
        train_tokenizer.train(train_tokenizer.corpus(texts), path)
    return Tokenizer(path)


def main() -> None:
    """Do everything, each part only once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--features", type=Path)
    parser.add_argument("--parts", default=",".join(PARTS))
    parser.add_argument("--minutes", type=float, default=45)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--size", type=int, default=24)
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--warm", type=int, default=6)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--inner", type=int, default=512)
    parser.add_argument("--resume", type=Path, help="go on from the weights of an earlier folder")
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    args.features = args.features or args.out / "features"
    args.parts = args.parts.split(",")
    for name in args.parts:
        features.encode(args.features, name, PARTS[name], "train")
    for name, (seeds, split) in HELD.items():
        features.encode(args.features, name, seeds, split)
    make_tokenizer(args.out, features.scenes(args.features, args.parts[0]))
    if args.workers == 1:
        work(0, args)
    else:
        mp.spawn(work, (args,), args.workers)


def work(rank: int, args: argparse.Namespace) -> None:
    """Train as one of several workers of one thread each: where cores are shared, threads that wait for each other crawl."""
    torch.set_num_threads(max(1, 2 // args.workers))
    if args.workers > 1:
        os.setsid()
        dist.init_process_group(
            "gloo", init_method=f"file://{(args.out / 'meeting').resolve()}", rank=rank, world_size=args.workers
        )
    torch.manual_seed(0)
    data = Data(args.features, args.parts)
    tokenizer = Tokenizer(args.out / "tokenizer.json")
    net = Net(Shape(tokenizer.size, layers=args.layers, inner=args.inner))
    helpers = Helpers(tokenizer, net.shape.width)
    log = Log(args.out / "train_log.jsonl") if rank == 0 else None
    if log is not None:
        parameters = sum(p.numel() for p in net.parameters())
        log.write(scenes=len(data.scenes), nouns=len(NOUNS), parameters=parameters, vocabulary=tokenizer.size)
    if args.resume:
        net.load_state_dict({n: w.float() for n, w in load_file(args.resume / "model.safetensors").items()})
        net.tie(2.0)
    warm_up(net, helpers, data, args.warm, log, rank, args.workers)
    if log is not None:
        write(net, args.out)
    train(net, helpers, data, tokenizer, args, log, rank)


if __name__ == "__main__":
    main()
