"""Train the embedded model from packages alone.

    python small/train.py --out build/small     # everything: pictures, features, tokenizer, weights

Needs torch, transformers, tokenizers, onnx, onnxruntime, safetensors, resvg-py and foveal itself; apt-get and npm fetch
the pictures.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import os
import random
import shutil
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
from foveal.models.small.tokenizer import IMAGE, IMAGE_TOKENS, Tokenizer
from foveal.scrapbook.panels import PHRASES, WORDS
from foveal.scrapbook.scene import Scene, looks
from foveal.scrapbook.truth import plural
from net import Net, Shape, shuffled
from pack import Batch, batch
from tasks import lesson

NOUNS = sorted({look.noun for look in looks()})
SAID = [words.lower() for words in (*WORDS, *PHRASES)]
MOST = 16
"""Things in a scene or sheet."""


class Data:
    """Features (float16, memory-mapped), scenes and cells of some parts, as one sequence."""

    def __init__(self, folder: Path, names: list[str]) -> None:
        self.parts = [np.load(folder / f"{n}.npy", mmap_mode="r") for n in names]
        self.scenes: list[Scene] = [s for n in names for s in features.scenes(folder, n)]
        cells = np.concatenate([np.load(folder / f"{n}.cells.npy") for n in names]).astype(np.int64)
        number = {noun: i for i, noun in enumerate(NOUNS)}
        nouns = np.array([([number[t.noun] for t in s.things] + [0] * MOST)[:MOST] for s in self.scenes])
        named = np.take_along_axis(nouns, np.maximum(cells, 0), 1)
        self.labels = torch.from_numpy(np.where(cells >= 0, named + 1, 0))
        self.cells, self.nouns = torch.from_numpy(cells), torch.from_numpy(nouns)
        said = {words: i for i, words in enumerate(SAID)}
        texts = [([said.get(t.words.lower(), -1) for t in s.texts] + [-1] * MOST)[:MOST] for s in self.scenes]
        self.said = torch.tensor(texts)
        self.present = torch.zeros(len(self.scenes), len(NOUNS))
        for i, scene in enumerate(self.scenes):
            self.present[i, [number[t.noun] for t in scene.things]] = 1
        self.index = [(p, i) for p, part in enumerate(self.parts) for i in range(len(part))]

    def patches(self, rows: list[int]) -> torch.Tensor:
        """Return the features of rows, four patches to a token."""
        found = np.stack([self.parts[p][i] for p, i in (self.index[r] for r in rows)]).astype(np.float32)
        return shuffled(torch.from_numpy(found))


class Helpers(torch.nn.Module):
    """Losses that only training knows: each image token names what covers it and where it is."""

    def __init__(self, tokenizer: Tokenizer, width: int) -> None:
        super().__init__()
        self.words = [tokenizer.encode(" " + noun)[-1] for noun in NOUNS]
        self.nothing = torch.nn.Parameter(torch.zeros(1, width))
        self.sharp = torch.nn.Parameter(torch.tensor(8.0))
        self.place = torch.nn.Linear(width, IMAGE_TOKENS)
        self.there = torch.nn.Linear(width, 1)
        self.read = torch.nn.Linear(width, len(SAID))
        self.noun = torch.full((tokenizer.size,), -1)
        for i, noun in enumerate(NOUNS):
            for form in (noun, plural(noun)):
                if len(ids := tokenizer.encode(" " + form)) == 1:
                    self.noun[ids[0]] = i

    def forward(self, net: Net, image: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the losses of naming and of placing."""
        table = torch.cat((self.nothing, net.embed_tokens.weight[self.words]))
        scores = f.normalize(image, dim=-1) @ f.normalize(table, dim=-1).T * self.sharp
        where = torch.arange(IMAGE_TOKENS).expand(len(image), IMAGE_TOKENS)
        naming = f.cross_entropy(scores.flatten(0, 1), labels.flatten())
        return naming, f.cross_entropy(self.place(image).flatten(0, 1), where.flatten())

    def objects(self, net: Net, image: torch.Tensor, cells: torch.Tensor, nouns: torch.Tensor) -> torch.Tensor:
        """Return the loss of naming each thing by the mean of the image tokens it covers."""
        mean, at = means(image, cells)
        table = net.embed_tokens.weight[self.words]
        scores = f.normalize(mean, dim=-1) @ f.normalize(table, dim=-1).T * self.sharp
        return f.cross_entropy(scores, nouns[at])

    def reading(self, image: torch.Tensor, cells: torch.Tensor, said: torch.Tensor) -> torch.Tensor:
        """Return the loss of telling the words on each board, numbers left out, by the mean of its image tokens."""
        mean, at = means(image, cells)
        return f.cross_entropy(self.read(mean), said[at], ignore_index=-1)

    def presence(self, middle: torch.Tensor, b: Batch, present: torch.Tensor) -> torch.Tensor:
        """Return the loss of telling, at each noun of a talk that sees the picture, whether it is there."""
        noun = self.noun[torch.from_numpy(b.ids)]
        at = (noun >= 0) & torch.from_numpy((b.sees > 0) & (b.talk > 0))
        truth = present[at.nonzero()[:, 0], noun[at]]
        return f.binary_cross_entropy_with_logits(self.there(middle[at])[:, 0], truth)


def means(image: torch.Tensor, cells: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the mean image token (n, width) of each thing that covers any, and which these are: (rows, MOST)."""
    inside = (cells[:, None] == torch.arange(MOST)[:, None]).float()
    size = inside.sum(-1)
    at = size > 0
    return (inside @ image)[at] / size[at][:, None], at


def warm_up(
    net: Net, helpers: Helpers, data: Data, boards: Data | None, args: argparse.Namespace, log: Log | None, rank: int
) -> None:
    """Teach the projector alone to name its tokens: cheap, and the decoder's words come to mean something to it."""
    with torch.no_grad():
        few = list(range(0, len(data.scenes), max(5, len(data.scenes) // 5000)))
        net.projector.learn_spread(data.patches(few).flatten(0, 1)[::7])
        if not args.warm:
            return
        mine = list(range(len(data.scenes)))[rank :: args.workers]
        known = ready(net, data, mine)
        written = ready(net, boards, list(range(len(boards.scenes)))[rank :: args.workers]) if boards else None
    labels, cells, nouns = data.labels[mine], data.cells[mine], data.nouns[mine]
    parameters = [*net.projector.linear_1.parameters(), *net.projector.linear_2.parameters()]
    parameters += [*([] if args.begin else [net.embed_tokens.weight]), *helpers.parameters()]
    size = 32 // args.workers
    steps = args.warm * (len(data.scenes) // args.workers // size)
    step = 0
    optimizer = torch.optim.AdamW(parameters, 1e-3, weight_decay=0.05)
    for epoch in range(args.warm):
        total = read = 0.0
        for at in torch.randperm(len(mine))[: steps // args.warm * size].split(size):
            rate(optimizer, 2e-3 * min(1, (step + 1) / 100) * (1 - 0.97 * step / steps))
            seen = f.dropout(known[at].float(), args.drop, training=True)
            image = net.projector.linear_2(f.gelu(net.projector.linear_1(seen)))
            naming, placing = helpers(net, image, labels[at])
            things = helpers.objects(net, image, cells[at], nouns[at])
            reading = torch.zeros(())
            if boards and written is not None:
                few = torch.randint(len(written), (len(at) // 4,))
                seen = f.dropout(written[few].float(), args.drop, training=True)
                image = net.projector.linear_2(f.gelu(net.projector.linear_1(seen)))
                which = few * args.workers + rank  # of all workers' boards
                reading = helpers.reading(image, boards.cells[which], boards.said[which])
            optimizer.zero_grad()
            (naming + things + 0.1 * placing + 0.5 * reading).backward()
            averaged(parameters)
            optimizer.step()
            total, read = total + float(things.detach()), read + float(reading.detach())
            step += 1
        if log is not None:
            log.write(phase="projector", epoch=epoch, things=total * args.warm / steps, words=read * args.warm / steps)


def ready(net: Net, data: Data, rows: list[int]) -> torch.Tensor:
    """Return the whitened features of rows, float16."""
    return torch.cat([net.projector.whitened(data.patches(rows[i : i + 200])).half() for i in range(0, len(rows), 200)])


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


def rows_of(step: int, count: int, size: int) -> list[int]:
    """Return the scenes of a step: each epoch goes through all of them in an order of its own."""
    epoch, at = divmod(step, count // size)
    order = np.random.default_rng(epoch).permutation(count)
    return [int(i) for i in order[at * size : (at + 1) * size]]


def batches(
    data: Data, tokenizer: Tokenizer, args: argparse.Namespace, first: int, rank: int
) -> Iterator[tuple[list[int], Batch]]:
    """Yield this worker's batches without end, each made while the one before is learned."""

    def made(step: int) -> tuple[list[int], Batch]:
        rows = rows_of(step, len(data.scenes), args.size)[rank :: args.workers]
        return rows, batch([data.scenes[r] for r in rows], step, NOUNS, tokenizer)

    with ThreadPoolExecutor(1) as thread:
        ahead = thread.submit(made, first)
        for step in itertools.count(first + 1):
            ready = ahead.result()
            ahead = thread.submit(made, step)
            yield ready


def train(
    net: Net,
    helpers: Helpers,
    data: Data,
    sheets: Data,
    boards: Data | None,
    tokenizer: Tokenizer,
    args: argparse.Namespace,
    log: Log | None,
    rank: int,
) -> None:
    """Train everything on the lessons; the rate falls along a cosine to the last step."""
    parameters = [p for p in (*net.parameters(), *helpers.parameters()) if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, args.rate, betas=(0.9, 0.95), weight_decay=0.05)
    first = load(net, helpers, optimizer, args.out / "checkpoint.pt")
    seen = dict.fromkeys(("loss", "naming", "presence"), 0.0)
    feed = batches(data, tokenizer, args, first, rank)
    parent = os.getppid()
    for step in range(first, args.steps):
        if args.workers > 1 and os.getppid() != parent:
            raise SystemExit("whoever started this worker is gone")
        done = step / args.steps
        rate(optimizer, args.rate * min(1, (step + 1) / 60) * (0.02 + 0.98 * (0.5 + 0.5 * math.cos(math.pi * done))))
        losses = learn(net, helpers, data, sheets, boards, tokenizer, args, *next(feed))
        optimizer.zero_grad()
        (losses["loss"] + 0.5 * losses["naming"] + 0.05 * losses["placing"] + 0.5 * losses["presence"]).backward()
        averaged(parameters)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        seen = {k: v + float(losses[k].detach()) for k, v in seen.items()}
        if log is not None and (step + 1) % 25 == 0:
            log.write(phase="decoder", step=step + 1, **{k: v / 25 for k, v in seen.items()})
            seen = dict.fromkeys(seen, 0.0)
        if log is not None and ((step + 1) % 50 == 0 or step + 1 == args.steps):
            save(net, helpers, optimizer, step + 1, args.out / "checkpoint.pt")
            write(net, args.out)
        if log is not None and (step + 1) in args.keep:
            (args.out / f"step{step + 1}").mkdir(exist_ok=True)
            write(net, args.out / f"step{step + 1}")
            shutil.copy(args.out / "tokenizer.json", args.out / f"step{step + 1}")


def learn(
    net: Net,
    helpers: Helpers,
    data: Data,
    sheets: Data,
    boards: Data | None,
    tokenizer: Tokenizer,
    args: argparse.Namespace,
    rows: list[int],
    b: Batch,
) -> dict[str, torch.Tensor]:
    """Return the losses of a batch."""
    ids, weight = torch.from_numpy(b.ids), torch.from_numpy(b.weight)
    only = (weight > 0).float().topk(int((weight > 0).sum(1).max()), 1).indices  # what is learned, evened out by row
    where = ids == tokenizer.ids[IMAGE]
    others = torch.randint(len(sheets.scenes), (args.beside * len(rows),)).tolist()
    signs = torch.randint(len(boards.scenes), (len(rows),)).tolist() if boards else []
    with torch.autocast("cpu", torch.bfloat16, enabled=features.HALF):
        seen = torch.cat((data.patches(rows), sheets.patches(others), *([boards.patches(signs)] if boards else [])))
        image, many, written = net.projector(seen, args.drop).float().split((len(rows), len(others), len(signs)))
        hidden, middle = net(ids, image, torch.from_numpy(b.positions), mask(b), where, only)
        weight, target = weight.gather(1, only), torch.from_numpy(b.target).gather(1, only)
        at = weight > 0
        logits = net.logits(hidden[at]).float()
    each = f.cross_entropy(logits, target[at], reduction="none")
    naming, placing = helpers(net, image, data.labels[rows])
    naming = naming + helpers.objects(net, many, sheets.cells[others], sheets.nouns[others])
    naming = naming + helpers.objects(net, image, data.cells[rows], data.nouns[rows])
    if boards:
        naming = naming + 0.5 * helpers.reading(written, boards.cells[signs], boards.said[signs])
    presence = helpers.presence(middle.float(), b, data.present[rows])
    loss = (each * weight[at]).sum() / weight[at].sum()
    return {"loss": loss, "naming": naming, "placing": placing, "presence": presence}


def save(net: Net, helpers: Helpers, optimizer: torch.optim.Optimizer, step: int, path: Path) -> None:
    """Write everything that is needed to go on."""
    parts = {"net": net.state_dict(), "helpers": helpers.state_dict(), "optimizer": optimizer.state_dict()}
    torch.save(parts | {"step": step}, path.with_suffix(".new"))
    path.with_suffix(".new").replace(path)


def load(net: Net, helpers: Helpers, optimizer: torch.optim.Optimizer, path: Path) -> int:
    """Go on from a checkpoint, if there is one; return the step it stands at."""
    if not path.exists():
        return 0
    parts = torch.load(path, weights_only=True)
    net.load_state_dict(parts["net"])
    helpers.load_state_dict(parts["helpers"])
    optimizer.load_state_dict(parts["optimizer"])
    return int(parts["step"])


def adopt(net: Net, folder: Path, tokenizer: Tokenizer) -> None:
    """Begin with the weights of an earlier model; a token it did not have begins as the mean of its pieces there."""
    weights = {name: w.float() for name, w in load_file(folder / "model.safetensors").items()}
    before = Tokenizer(folder / "tokenizer.json")
    old = weights["embed_tokens.weight"]
    table = net.embed_tokens.weight.detach().clone()
    for i in range(tokenizer.size):
        pieces = [before.ids[name] for name, k in tokenizer.ids.items() if k == i]
        pieces = pieces or before.encode(tokenizer.decode([i]))
        if pieces:
            table[i] = old[pieces].mean(0)
    net.load_state_dict(weights | {"embed_tokens.weight": table}, strict=False)  # whitening is found anew


def write(net: Net, path: Path) -> None:
    """Write the weights as bf16 safetensors."""
    first = {f"projector.{name}": w for name, w in net.projector.folded().items()}
    state = {n: w for n, w in net.state_dict().items() if not n.startswith("projector.")} | first
    whole = "projector.linear_1.bias"
    state = {n: w.detach().to(torch.float32 if n == whole else torch.bfloat16).contiguous() for n, w in state.items()}
    save_file(state, str(path / "model.safetensors"), metadata={"shape": json.dumps(net.shape.as_dict())})


def make_tokenizer(folder: Path, scenes: list[Scene]) -> None:
    """Train the tokenizer on the lessons of some scenes, unless it is there."""
    path = folder / "tokenizer.json"
    if not path.exists():
        rng = random.Random(2)
        texts = [turn.text for s in scenes for talk in lesson(s, rng, NOUNS) for turn in talk.turns]
        train_tokenizer.train(train_tokenizer.corpus(texts, NOUNS), path)


def main() -> None:
    """Do everything, each part only once."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--features", type=Path)
    parser.add_argument("--thousands", type=int, default=24, help="training scenes")
    parser.add_argument("--sheets", type=int, default=6, help="thousands of them")
    parser.add_argument("--after", type=int, default=0, help="thousands of scenes that are left out: learned before")
    parser.add_argument("--sheets-after", type=int, default=0, help="thousands of sheets that are left out")
    parser.add_argument("--boards", type=int, default=4, help="thousands of them; with 0 nothing is told to read")
    parser.add_argument("--steps", type=int, default=2400)
    parser.add_argument("--size", type=int, default=24, help="scenes of a step")
    parser.add_argument("--beside", type=int, default=3, help="sheets beside each scene of a step")
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--drop", type=float, default=0.1, help="share of the features that is blanked")
    parser.add_argument("--warm", type=int, default=6, help="epochs of the projector alone")
    parser.add_argument("--keep", type=int, nargs="*", default=[250], help="steps whose weights are kept")
    parser.add_argument("--begin", type=Path, help="begin with the weights of an earlier folder")
    parser.add_argument("--workers", type=int, default=2)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    args.features = args.features or args.out / "features"
    scenes, sheets = features.training(args.thousands, args.after), features.sheets(args.sheets, args.sheets_after)
    boards = features.boards_of(args.boards)
    features.encode_all(args.features, [*scenes, *sheets, *boards, *features.HELD])
    args.sheets, args.boards = [part.name for part in sheets], [part.name for part in boards]
    args.parts = [part.name for part in scenes]
    make_tokenizer(args.out, [s for name in args.parts[:4] for s in features.scenes(args.features, name)])
    if args.workers == 1:
        work(0, args)
    else:
        (args.out / "meeting").unlink(missing_ok=True)
        mp.spawn(work, (args,), args.workers)


def work(rank: int, args: argparse.Namespace) -> None:
    """Train as one of several workers of one thread each: on shared cores, threads that wait for each other crawl."""
    torch.set_num_threads(max(1, 2 // args.workers))
    if args.workers > 1:
        dist.init_process_group(
            "gloo", init_method=f"file://{(args.out / 'meeting').resolve()}", rank=rank, world_size=args.workers
        )
    data, boards = Data(args.features, args.parts), Data(args.features, args.boards) if args.boards else None
    tokenizer = Tokenizer(args.out / "tokenizer.json")
    torch.manual_seed(0)
    net = Net(Shape(tokenizer.size))
    helpers = Helpers(tokenizer, net.shape.width)
    torch.manual_seed(1 + rank)
    log = Log(args.out / "train_log.jsonl") if rank == 0 else None
    if log is not None:
        parameters = sum(p.numel() for p in net.parameters())
        log.write(scenes=len(data.scenes), nouns=len(NOUNS), parameters=parameters, vocabulary=tokenizer.size)
    if not (args.out / "checkpoint.pt").exists():
        if args.begin:
            adopt(net, args.begin, tokenizer)
        warm_up(net, helpers, Data(args.features, args.parts + args.sheets), boards, args, log, rank)
    train(net, helpers, data, Data(args.features, args.sheets), boards, tokenizer, args, log, rank)


if __name__ == "__main__":
    main()
