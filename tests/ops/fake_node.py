"""A node that does nothing, for the tests of what runs it."""

from __future__ import annotations

import asyncio
import json
import os
import signal


class FakeNode:
    def __init__(self, settings):
        self.settings = settings
        self.background = (self.tick,)
        self.reloaded = 0
        self.opened = False

    async def open(self):
        self.opened = True

    async def close(self):
        print("closed", flush=True)

    def reload(self):
        self.reloaded += 1

    async def tick(self):
        path = self.settings.data_dir / "leaders"
        with path.open("a") as file:
            file.write(f"{os.getpid()}\n")
        await asyncio.Event().wait()

    async def mllp(self, reader, writer):
        while line := await reader.readline():
            if line == b"slow\n":
                await asyncio.sleep(1)
            writer.write(line)
            await writer.drain()

    async def asgi(self, scope, receive, send):
        path = scope["path"]
        size = 0
        while True:
            message = await receive()
            size += len(message.get("body", b""))
            if not message.get("more_body"):
                break
        if path == "/slow":
            await asyncio.sleep(1.5)
        if path == "/die":
            os.kill(os.getpid(), signal.SIGKILL)
        body = {"pid": os.getpid(), "size": size, "reloaded": self.reloaded, "opened": self.opened}
        body["public_url"] = self.settings.http.public_url
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps(body).encode()})


def build(settings):
    return FakeNode(settings)


def build_broken(settings):
    raise RuntimeError("this node cannot be built")
