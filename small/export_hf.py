"""Write the embedded model as a standard transformers model: InternVL with a Llama decoder.

python small/export_hf.py OUT        # then AutoModelForImageTextToText.from_pretrained(OUT), no remote code
"""

from __future__ import annotations

import argparse
from pathlib import Path

from foveal.train.small import model, packaged, processor


def main() -> None:
    """Write model, processor and generation settings."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--weights", type=Path, default=packaged())
    args = parser.parse_args()
    model(args.weights).save_pretrained(args.out)
    processor(args.weights).save_pretrained(args.out)


if __name__ == "__main__":
    main()
