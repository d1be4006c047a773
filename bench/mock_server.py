"""A mock OpenAI-compatible server: N slots, fixed latency, faults on demand, and a count of everything asked twice.

A hand-written HTTP/1.1 protocol on uvloop, so that the server is not what is measured: picture payloads are cut out of
the body before JSON is parsed, so 100 kB of picture cost one short hash and no decoding.

    python bench/mock_server.py --port 18080 --slots 64 --latency 0.2

Control: GET /stats. Binds 127.0.0.1 only; port 0 takes a free one. Says `ready PORT` when it listens.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import random
import time
from collections import Counter, deque
from typing import Any

import orjson

import common

B64 = b";base64,"
FAULTS = ("p429", "p500", "pmalformed", "ptimeout")
REASON = {200: b"OK", 404: b"Not Found", 429: b"Too Many Requests", 500: b"Internal Server Error"}


class Entry:
    """One request as the log holds it."""

    __slots__ = ("arrived", "attempt", "done", "key", "started", "status", "step")

    def __init__(self, step: str, key: str, status: str, arrived: float, attempt: int) -> None:
        self.step, self.key, self.status, self.arrived, self.attempt = step, key, status, arrived, attempt
        self.started: float | None = None
        self.done: float | None = None


class Job:
    """A request that takes a slot, and what will be said."""

    __slots__ = ("body", "conn", "entry", "fault")

    def __init__(self, conn: Conn, entry: Entry, fault: str | None, body: bytes) -> None:
        self.conn, self.entry, self.fault, self.body = conn, entry, fault, body

    def reply(self) -> None:
        if self.fault == "429":
            self.conn.send(429, b'{"error":{"message":"rate limited","type":"limit"}}', b"Retry-After: 1\r\n")
        elif self.fault == "500":
            self.conn.send(500, b'{"error":{"message":"internal error","type":"server_error"}}')
        else:
            self.conn.send(200, self.body)


class Server:
    """Slots, queue and log."""

    def __init__(self, opt: argparse.Namespace) -> None:
        self.opt = opt
        self.wall = time.time() - time.monotonic()
        self.busy = self.max_busy = self.max_queue = 0
        self.asking = self.max_asking = 0  # connections that have carried a chat request
        self.waiting: deque[Job] = deque()
        self.log: list[Entry] = []
        self.attempts: Counter[str] = Counter()
        self.other: Counter[str] = Counter()

    def submit(self, job: Job) -> None:
        if self.busy < self.opt.slots:
            self.start(job)
        else:
            self.waiting.append(job)
            self.max_queue = max(self.max_queue, len(self.waiting))

    def start(self, job: Job) -> None:
        self.busy += 1
        self.max_busy = max(self.max_busy, self.busy)
        job.entry.started = time.monotonic()
        latency = self.opt.latency * (1 + self.opt.jitter * (2 * random.random() - 1))
        if job.fault == "timeout":
            latency = self.opt.hang
        elif job.fault in ("429", "500"):
            latency = min(latency, 0.005)
        asyncio.get_running_loop().call_later(latency, self.finish, job)

    def finish(self, job: Job) -> None:
        self.busy -= 1
        job.entry.done = time.monotonic()
        job.reply()
        while self.waiting and self.busy < self.opt.slots:
            following = self.waiting.popleft()
            if following.conn.dead:  # the client went away while it waited
                following.entry.status, following.entry.done = "gone", time.monotonic()
            else:
                self.start(following)

    def fault(self, key: str, attempt: int) -> str | None:
        """Same prompt and attempt, same fault: whoever the client is, in whatever order it asks."""
        drawn = hashlib.blake2b(f"{self.opt.seed}/{key}/{attempt}".encode(), digest_size=4).digest()
        x = int.from_bytes(drawn, "big") / 2**32
        for name in FAULTS:
            if x < (p := getattr(self.opt, name)):
                return name[1:]
            x -= p
        return None

    def stats(self) -> dict[str, Any]:
        done = [e for e in self.log if e.done is not None and e.status != "gone"]
        good = Counter((e.step, e.key) for e in done if e.status == "ok")
        first = min((e.done for e in done if e.step == "answer" and e.status == "ok"), default=None)
        began = min((e.arrived for e in self.log), default=0.0)
        return {
            "requests": len(self.log),
            "in_flight": self.busy + len(self.waiting),
            "by_status": dict(Counter(e.status for e in self.log)),
            "unique_ok": len(good),
            "repeated_ok": sum(good.values()) - len(good),
            "max_busy": self.max_busy,
            "max_queue": self.max_queue,
            "max_connections": self.max_asking,
            "first_request": self.wall + began,
            "first_answer": None if first is None else self.wall + first,
            "last_done": self.wall + max((e.done for e in done if e.done is not None), default=0.0),
            "other_paths": dict(self.other),
        }


def read_request(body: bytes) -> tuple[str, list[str]]:
    """Return (text of all messages, digests of the pictures)."""
    out, digests, at = [], [], 0
    while (i := body.find(B64, at)) >= 0:
        j = body.find(b'"', i)
        digests.append(common.image_digest(memoryview(body)[i + len(B64) : j]))
        out += [body[at:i], b";img:" + digests[-1].encode()]
        at = j
    said: list[str] = []
    for message in orjson.loads(b"".join([*out, body[at:]])).get("messages", ()):
        content = message.get("content")
        if isinstance(content, str):
            said.append(content)
        else:
            said += [p["text"] if p.get("type") == "text" else p["image_url"]["url"] for p in content or ()]
    return "\n".join(said), digests


def answer(text: str, digests: list[str]) -> tuple[str, str]:
    """Return (step, what is said)."""
    if common.MARK_ANSWER in text:
        return "answer", common.answer_for(common.digest_in(text[text.rfind("Question:") :]))
    if common.MARK_SCORE in text:
        digest = common.digest_in(text[text.rfind(common.MARK_SCORE) :])
        return "score", f'{{"score": {common.score_for(digest) if digest else 1}}}'
    if common.MARK_INSTRUCT in text:
        return "instruct", common.instruction_for(digests[0] if digests else "0" * 16)
    return "other", "hello"


class Conn(asyncio.Protocol):
    """One connection."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.chunks: list[bytes] = []
        self.have = self.need = self.off = 0
        self.dead = self.asks = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self.dead = True
        self.server.asking -= self.asks

    def data_received(self, data: bytes) -> None:
        self.chunks.append(data)
        self.have += len(data)
        while self.have:
            if not self.need and not self._head():
                return
            if self.have < self.need:
                return
            whole = b"".join(self.chunks)
            rest = whole[self.need :]
            head, body = whole[: self.off], whole[self.off : self.need]
            self.chunks, self.have, self.need = [rest] if rest else [], len(rest), 0
            self.handle(head, body)

    def _head(self) -> bool:
        whole = b"".join(self.chunks)
        self.chunks = [whole]
        end = whole.find(b"\r\n\r\n")
        if end < 0:
            return False
        low = whole[:end].lower()
        at = low.find(b"content-length:")
        self.off = end + 4
        self.need = self.off + (int(low[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0)
        return True

    def handle(self, head: bytes, body: bytes) -> None:
        method, path, _ = head.split(b"\r\n", 1)[0].split(b" ")
        if path.endswith(b"/chat/completions"):
            self.chat(body)
        elif path.endswith(b"/models"):
            self.send(200, orjson.dumps({"object": "list", "data": [{"id": common.MODEL, "owned_by": "mock"}]}))
        elif path == b"/stats":
            self.send(200, orjson.dumps(self.server.stats()))
        else:
            self.server.other[(method + b" " + path).decode()] += 1
            self.send(404, b'{"error":{"message":"no such path"}}')

    def chat(self, body: bytes) -> None:
        server, arrived = self.server, time.monotonic()
        if not self.asks:
            self.asks = True
            server.asking += 1
            server.max_asking = max(server.max_asking, server.asking)
        text, digests = read_request(body)
        key = hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
        step, content = answer(text, digests)
        server.attempts[key] += 1
        fault = server.fault(key, server.attempts[key])
        if fault == "malformed":
            if step == "score":  # only what promises JSON can be malformed
                content = content[: len(content) // 2] + " <<<broken"
            else:
                fault = None
        entry = Entry(step, key, fault or "ok", arrived, server.attempts[key])
        server.log.append(entry)
        tokens = {"prompt_tokens": len(text) // 4 + 256 * len(digests), "completion_tokens": len(content) // 4}
        choice = {"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}
        what = {"id": key, "object": "chat.completion", "model": common.MODEL, "usage": tokens, "choices": [choice]}
        server.submit(Job(self, entry, fault, orjson.dumps(what)))

    def send(self, code: int, body: bytes, extra: bytes = b"") -> None:
        if not self.dead:
            self.transport.write(
                b"HTTP/1.1 %d %s\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\n\r\n"
                % (code, REASON[code], extra, len(body))
                + body
            )


async def serve(opt: argparse.Namespace) -> None:
    server = Server(opt)
    listening = await asyncio.get_running_loop().create_server(
        lambda: Conn(server), "127.0.0.1", opt.port, backlog=4096
    )
    print("ready", listening.sockets[0].getsockname()[1], flush=True)
    await listening.serve_forever()


if __name__ == "__main__":
    import uvloop

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=18080)
    parser.add_argument("--slots", type=int, default=64)
    parser.add_argument("--latency", type=float, default=0.2)
    parser.add_argument("--jitter", type=float, default=0.0)
    parser.add_argument("--hang", type=float, default=20.0, help="how long a request that hangs holds its slot")
    parser.add_argument("--seed", type=int, default=1)
    for each in FAULTS:
        parser.add_argument("--" + each, type=float, default=0.0)
    uvloop.run(serve(parser.parse_args()))
