"""What preference training costs: k rejected answers in one row against k rows, and a reference computed before.

    python bench/train.py [--seconds 60]      # three lines of ratios; needs 'foveal[train,small]', fetches nothing

The model has the embedded model's shape with random weights, its vision tower frozen. Steps are whole ones, forward,
backward and optimiser, of the same trainer on one thread; the ways take turns, and a ratio is of their median CPU times
in this one run, so that a busy machine does not matter.
"""

from __future__ import annotations

import argparse
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from PIL import Image as Pillow

from foveal.models.small.decoder import read_safetensors
from foveal.train import small
from foveal.train.loss_table import parse
from foveal.train.preference import Collator, Listed, PreferenceTrainer, frozen_copy, precompute

K, GROUPS, WORDS = 4, 1, 24
NOUNS = [
    "cat",
    "dog",
    "tree",
    "house",
    "river",
    "bird",
    "chair",
    "table",
    "red",
    "blue",
    "green",
    "small",
    "large",
    "left",
    "right",
    "above",
    "two",
    "three",
]


def words(rng: random.Random) -> str:
    """Return an answer of WORDS words."""
    return " ".join(rng.choice(NOUNS) for _ in range(WORDS))


def rows_of(folder: Path, groups: int) -> list[dict[str, Any]]:
    """Return rows with K rejected answers each, about pictures of noise."""
    rng, rows = random.Random(0), []
    for n in range(groups):
        path = folder / f"{n}.png"
        Pillow.frombytes("RGB", (224, 168), rng.randbytes(224 * 168 * 3)).save(path)
        asked = [{"type": "image"}, {"type": "text", "text": f"What is on the left, and how many? {words(rng)}"}]
        rows.append({
            "images": [str(path)], "prompt": [{"role": "user", "content": asked}], "chosen": words(rng),
            "rejected": [words(rng) for _ in range(K)],
        })  # fmt: skip
    return rows


def model() -> tuple[Any, Any]:
    """Return a model of the embedded model's shape and its processor."""
    folder = small.packaged()
    _, shape = read_safetensors(folder / "model.safetensors")
    torch.manual_seed(0)
    config = small.configuration(shape, small.tokenizer(folder))
    made = transformers.InternVLForConditionalGeneration(config)
    made.get_encoder(modality="image").requires_grad_(False)
    return made, small.processor(folder)


def stepper(
    made: Any, processor: Any, rows: list[dict[str, Any]], loss: str, folder: Path, reference: Any = None,
    known: Any = None, apart: bool = False,
) -> Callable[[], float]:  # fmt: skip
    """Return what takes one step on all rows and returns its seconds."""
    config = transformers.TrainingArguments(
        output_dir=str(folder), per_device_train_batch_size=len(rows), report_to="none", use_cpu=True,
        remove_unused_columns=False, save_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    mix = parse(loss)
    trainer = PreferenceTrainer(
        mix=mix, reference=reference, model=made, args=config, train_dataset=Listed(rows, known),
        data_collator=Collator(processor, mix.needs, apart=apart),
    )  # fmt: skip
    trainer.current_gradient_accumulation_steps = 1
    optimizer = trainer.create_optimizer()

    def step() -> float:
        began = time.process_time()
        batch = trainer.data_collator([trainer.train_dataset[i] for i in range(len(rows))])
        trainer.training_step(made, batch)
        optimizer.step()
        optimizer.zero_grad()
        return time.process_time() - began

    return step


def main() -> None:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        made, processor = model()
        groups = rows_of(folder, GROUPS)
        pairs = [{**row, "rejected": [r]} for row in groups for r in row["rejected"]]
        resident = frozen_copy(made)

        def known(rows: list[dict[str, Any]], loss: str) -> Any:
            keep = folder / f"{loss}-{len(rows)}"
            return precompute(made, rows, Collator(processor, parse(loss).needs), len(rows), keep, "bench")

        few = [{**row, "rejected": row["rejected"][:1]} for row in rows_of(folder, 2)]
        grouped, expanded, few_known = known(groups, "infonce"), known(pairs, "sigmoid"), known(few, "sigmoid")
        ways = {
            "grouped": stepper(made, processor, groups, "infonce", folder, known=grouped),
            "expanded": stepper(made, processor, pairs, "sigmoid", folder, known=expanded, apart=True),
            "expanded, pictures shared": stepper(made, processor, pairs, "sigmoid", folder, known=expanded),
            "precomputed": stepper(made, processor, few, "sigmoid", folder, known=few_known),
            "resident": stepper(made, processor, few, "sigmoid", folder, reference=resident),
        }
        took: dict[str, list[float]] = {way: [] for way in ways}
        until = time.monotonic() + args.seconds
        for step in ways.values():
            step()  # the first of its kind is slower
        while time.monotonic() < until or len(took["resident"]) < 3:
            for way, step in ways.items():
                took[way].append(step())
        median = {way: statistics.median(times) for way, times in took.items()}
    steps = len(took["resident"])
    print(f"CPU seconds, medians of {steps} steps on one thread, {GROUPS} row of k = {K} and its {K} pair rows, "
          + ", ".join(f"{way} {seconds:.2f}" for way, seconds in median.items()))  # fmt: skip
    apart, shared = (median["grouped"] / median[way] for way in ("expanded", "expanded, pictures shared"))
    print(f"k-negative row / {K} expanded pair rows: {apart:.2f} (wanted: at most 0.70)")
    print(f"k-negative row / {K} pair rows that share their picture: {shared:.2f}")
    print(f"resident reference / precomputed: {median['resident'] / median['precomputed']:.2f} (wanted: at least 1.30)")


if __name__ == "__main__":
    main()
