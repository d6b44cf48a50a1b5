"""An OpenAI-compatible server that fails on purpose, and keeps its own count. Run in a process of its own.

    python faulty_server.py --share 0.3 --seed 0        # prints its port, serves until it is stopped

It charges tokens once for each idempotency key: a request that is sent again under the same key gets the
stored answer. ``GET /stats`` tells what it counted; ``GET /prompts`` all distinct texts it was sent.
"""

import argparse
import asyncio
import base64
import hashlib
import json
import random
import sys

FAULTS = (
    "429", "429 retry-after", "500", "hang", "cut body", "cut json", "wrong schema", "refusal",
    "wrong language",
)  # fmt: skip
CAPTION = "The person has short hair and looks at the camera. The light is even."
FRENCH = "Une personne aux cheveux courts regarde vers nous avec un sourire."


class Server:
    def __init__(self, share: float, seed: int, delay: float, hang: float) -> None:
        self.share, self.seed, self.delay, self.hang = share, seed, delay, hang
        self.received = 0
        self.keys: set[str] = set()
        self.stored: dict[str, dict] = {}
        self.faults: dict[str, int] = {}
        self.shuffled: list[str] = []
        self.texts: set[str] = set()
        self.pictures: set[str] = set()
        self.most_at_once = self.at_once = 0

    def stats(self) -> dict:
        return {
            "received": self.received,
            "distinct": len(self.keys),
            "charged": len(self.stored),
            "tokens_in": sum(reply["usage"]["prompt_tokens"] for reply in self.stored.values()),
            "tokens_out": sum(reply["usage"]["completion_tokens"] for reply in self.stored.values()),
            "faults": self.faults,
            "pictures": len(self.pictures),
            "most_at_once": self.most_at_once,
        }

    async def handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while (head := await reader.readuntil(b"\r\n\r\n")) is not None:
                first, *lines = head.decode().split("\r\n")
                headers = {
                    k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines if line)
                }
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                if first.startswith("GET"):
                    value = self.stats() if "/stats" in first else sorted(self.texts)
                    self.send(writer, 200, value)
                else:
                    self.at_once += 1
                    self.most_at_once = max(self.most_at_once, self.at_once)
                    try:
                        await self.complete(writer, headers, json.loads(body))
                    finally:
                        self.at_once -= 1
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def send(self, writer, status: int, value, headers: dict | None = None, cut: bool = False) -> None:
        body = json.dumps(value).encode()
        lines = [f"HTTP/1.1 {status} X", "content-type: application/json", f"content-length: {len(body)}"]
        lines += [f"{name}: {text}" for name, text in (headers or {}).items()]
        writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + (body[: len(body) // 2] if cut else body))
        if cut:
            writer.close()

    def next_fault(self) -> str:
        """Draw without putting back, so that a short run meets every fault too."""
        if not self.shuffled:
            count = sum(self.faults.values())
            self.shuffled = random.Random(f"{self.seed}:{count}").sample(FAULTS, len(FAULTS))
        return self.shuffled.pop()

    async def complete(self, writer, headers: dict, request: dict) -> None:
        self.received += 1
        key = headers.get("idempotency-key", f"none {self.received}")
        self.keys.add(key)
        picture = self.look(request, headers)
        await asyncio.sleep(self.delay)
        if key in self.stored:
            self.send(writer, 200, self.stored[key])
            return
        # The draw depends on key and on how often the server was asked at all, so no request fails for ever.
        rng = random.Random(f"{self.seed}:{key}:{self.received}")
        fault = self.next_fault() if rng.random() < self.share else None
        if fault is not None:
            self.faults[fault] = self.faults.get(fault, 0) + 1
        if fault in ("429", "429 retry-after"):
            extra = {"Retry-After": "0.2"} if fault == "429 retry-after" else {}
            self.send(writer, 429, {"error": {"message": "slow down"}}, extra)
        elif fault == "500":
            self.send(writer, 500, {"error": {"message": "broken"}})
        elif fault == "hang":
            await asyncio.sleep(self.hang)
        else:
            self.stored[key] = self.reply(request, picture, fault)
            self.send(writer, 200, self.stored[key], cut=fault == "cut body")

    def look(self, request: dict, headers: dict) -> bytes:
        picture = b""
        for message in request["messages"]:
            parts = message["content"]
            for part in [{"type": "text", "text": parts}] if isinstance(parts, str) else parts:
                if part["type"] == "text":
                    if message["role"] != "assistant":
                        self.texts.add(part["text"])
                else:
                    picture = base64.b64decode(part["image_url"]["url"].partition(",")[2])
        self.texts.add(json.dumps({k: v for k, v in request.items() if k != "messages"}))
        self.texts.add(" ".join(sorted(headers)))
        self.texts.add(hashlib.sha256(picture).hexdigest())
        self.pictures.add(hashlib.sha256(picture).hexdigest())
        for secret in (b"SECRET",):
            if secret in picture or any(secret.decode() in value for value in headers.values()):
                self.texts.add("SECRET in picture or headers")
        return picture

    def reply(self, request: dict, picture: bytes, fault: str | None) -> dict:
        schema = request["response_format"]["json_schema"]["schema"]["properties"]
        rng = random.Random(f"{request['model']}:{hashlib.sha256(picture).hexdigest()}")
        names = schema["attributes"]["properties"]
        said = {name: rng.choice(node["enum"]) for name, node in names.items()}
        extra = {
            name: rng.choice(node["enum"])
            for name, node in schema.items()
            if name not in ("caption", "attributes")
        }
        answer = {"caption": CAPTION, "attributes": said, **extra}
        if fault == "wrong language":
            answer["caption"] = FRENCH
        elif fault == "wrong schema":
            answer["attributes"].pop(next(iter(said)))
        text = json.dumps(answer)
        message = {"role": "assistant", "content": text[: len(text) // 2] if fault == "cut json" else text}
        if fault == "refusal":
            message = {"role": "assistant", "content": None, "refusal": "I'm sorry, I can't describe people."}
        finish = "length" if fault == "cut json" else "stop"
        return {
            "id": "x", "object": "chat.completion", "created": 0, "model": f"{request['model']}-served",
            "choices": [{"index": 0, "finish_reason": finish, "message": message}],
            "usage": {"prompt_tokens": 700 + len(picture) % 50, "completion_tokens": len(text) // 4,
                      "total_tokens": 0},
        }  # fmt: skip


async def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--share", type=float, default=0.3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--delay", type=float, default=0.02)
    parser.add_argument("--hang", type=float, default=3600.0)
    args = parser.parse_args()
    server = Server(args.share, args.seed, args.delay, args.hang)
    listening = await asyncio.start_server(server.handle, "127.0.0.1", 0, limit=2**24)
    sys.stdout.write(f"{listening.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    async with listening:
        await listening.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
