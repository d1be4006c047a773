"""The limit to be next to: a hand-written loop, one coroutine a row, one aiohttp session, a journal of finished calls.

It has none of what a tool is for (no discovery of the concurrency, no history, no report), and bounds what any can do.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import sys
from pathlib import Path
from typing import Any

import aiohttp
import orjson

from common import KEEP_FROM, MODEL, PROMPT_ANSWER, PROMPT_INSTRUCT, PROMPT_SCORE

JSON = {"Content-Type": "application/json"}


class Bare:
    """The loop."""

    def __init__(self, args: argparse.Namespace, http: aiohttp.ClientSession) -> None:
        self.http, self.url = http, args.url + "/chat/completions"
        self.slots = asyncio.Semaphore(args.concurrency)
        path = args.out / "journal.jsonl"
        self.known = dict(self._read(path)) if path.exists() else {}
        self.journal = path.open("ab", buffering=0)
        self.rows: list[dict[str, Any]] = []

    @staticmethod
    def _read(path: Path) -> Any:
        for line in path.open("rb"):
            try:
                key, said = orjson.loads(line)
            except ValueError:
                continue  # cut off by a kill
            yield tuple(key), said

    async def ask(self, key: tuple[str, str], content: Any) -> Any:
        if key in self.known:
            return self.known[key]
        body = orjson.dumps({"model": MODEL, "messages": [{"role": "user", "content": content}]})
        for attempt in range(8):
            try:
                async with self.http.post(self.url, data=body, headers=JSON) as reply:
                    data = await reply.read()
                    if reply.status == 200:
                        said = orjson.loads(data)["choices"][0]["message"]["content"]
                        said = int(json.loads(said)["score"]) if key[1] == "score" else said
                        self.journal.write(orjson.dumps([key, said]) + b"\n")
                        return said
            except (aiohttp.ClientError, TimeoutError, ValueError, KeyError):
                pass
            await asyncio.sleep(min(0.1 * 2**attempt, 2))
        raise RuntimeError(f"gave up: {key}")

    async def row(self, path: Path) -> None:
        async with self.slots:
            name = path.name
            url = "data:image/jpeg;base64," + base64.b64encode(path.read_bytes()).decode()  # noqa: ASYNC240 - as one does
            picture = {"type": "image_url", "image_url": {"url": url}}
            question = await self.ask((name, "instruct"), [picture, {"type": "text", "text": PROMPT_INSTRUCT}])
            score = await self.ask((name, "score"), PROMPT_SCORE + question)
            if score < KEEP_FROM:
                return
            answer = await self.ask((name, "answer"), [picture, {"type": "text", "text": PROMPT_ANSWER + question}])
            self.rows.append({"id": name, "instruction": question, "score": score, "answer": answer})


async def main(args: argparse.Namespace) -> None:
    args.out.mkdir(parents=True, exist_ok=True)
    paths = sorted(args.images.iterdir())[: args.n]
    timeout = aiohttp.ClientTimeout(total=args.timeout)
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout) as http:
        bare = Bare(args, http)
        ends = await asyncio.gather(*map(bare.row, paths), return_exceptions=True)
    for error in [e for e in ends if e is not None][:3]:
        print("failed row:", error, file=sys.stderr)
    (args.out / "rows.jsonl").write_bytes(b"".join(orjson.dumps(row) + b"\n" for row in bare.rows))


if __name__ == "__main__":
    import uvloop

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", type=Path)
    parser.add_argument("-n", type=int, default=None)
    parser.add_argument("--url", required=True)
    parser.add_argument("--concurrency", type=int, required=True)
    parser.add_argument("--timeout", type=float, default=60.0)
    parser.add_argument("--out", type=Path, required=True)
    uvloop.run(main(parser.parse_args()))
