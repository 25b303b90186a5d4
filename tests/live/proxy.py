"""A TCP proxy on loopback that stands between the tool and a server: it ends TLS, slows bytes down, and can stop at a
request. With it a test decides where the tool is when a signal arrives, and does not have to guess.

    with Proxy(cluster.uri, tls=context) as proxy:
        tool.run("export", url, "--source", proxy.uri, ...)
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import threading
from urllib.parse import urlsplit

CHUNK = 16 << 10


class Encrypted:
    """The server's side of TLS over a pair of streams, with `read`, `write` and `drain` like theirs.

    asyncio's own drops the alert that says why a handshake failed; real servers send it.
    """

    def __init__(self, context: ssl.SSLContext, reader: asyncio.StreamReader, writer: asyncio.StreamWriter):
        self._reader, self._writer = reader, writer
        self.transport = writer.transport
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._in, self._out, server_side=True)

    def _send(self) -> None:
        if data := self._out.read():
            self._writer.write(data)

    async def _more(self) -> None:
        self._send()
        data = await self._reader.read(CHUNK)
        if not data:
            raise EOFError
        self._in.write(data)

    async def handshake(self) -> "Encrypted":
        try:
            while True:
                try:
                    self._tls.do_handshake()
                    self._send()
                    return self
                except ssl.SSLWantReadError:
                    await self._more()
        except ssl.SSLError:
            self._send()  # the alert
            with contextlib.suppress(OSError, asyncio.TimeoutError):
                self._writer.write_eof()
                # closing with bytes unread would reset the connection, and the alert with it
                await asyncio.wait_for(self._reader.read(-1), 1)
            raise

    async def read(self, most: int) -> bytes:
        while True:
            try:
                return self._tls.read(most)
            except ssl.SSLWantReadError:
                try:
                    await self._more()
                except EOFError:
                    return b""
            except ssl.SSLError:
                self._send()
                return b""

    def write(self, data: bytes) -> None:
        self._tls.write(data)
        self._send()

    async def drain(self) -> None:
        await self._writer.drain()


class Proxy:
    """Forwards every connection to `upstream`.

    `hold`: a request that contains these bytes is not forwarded, and nothing else of its connection after it.
    `swallow`: a request that contains these bytes is forwarded, and the server's answer to it is kept back.
    `pause`: seconds to wait for each 16 KiB that the server sends.
    `hold_at`, `swallow_at`: the same for the n-th gRPC request of all connections (an HTTP/2 HEADERS frame).
    """

    def __init__(
        self, upstream: str, tls: ssl.SSLContext | None = None, hold: bytes = b"", swallow: bytes = b"", pause: float = 0,
        request_pause: float = 0, hold_at: int = 0, swallow_at: int = 0,
    ):  # fmt: skip
        where = urlsplit(upstream)
        self._upstream = (where.hostname, where.port)
        self._tls = tls
        self.hold, self.swallow, self.pause, self.request_pause = hold, swallow, pause, request_pause
        self.hold_at, self.swallow_at, self.requests = hold_at, swallow_at, 0
        self.stopped = threading.Event()  # a request met `hold` or `swallow`
        self.answered = threading.Event()  # and the server has answered one whose answer is kept back
        self.connections = 0  # that came through, TLS handshake included
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._tasks: set[asyncio.Task] = set()

    @property
    def uri(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    def __enter__(self) -> "Proxy":
        self._thread.start()
        self._server = self._wait(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        self._wait(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def let_go(self) -> None:
        """What was held goes on its way, and nothing is held any more."""
        self.hold = self.swallow = b""
        self.hold_at = self.swallow_at = self.requests = 0
        self.stopped.clear()
        self.answered.clear()

    def cut(self) -> None:
        """Every connection ends at once, in the middle of whatever is on it."""

        async def cut() -> None:
            for task in list(self._tasks):
                task.cancel()

        self._wait(cut())

    def go_away(self) -> None:
        """From now on connections are refused, as by a server that is not running."""

        async def close() -> None:
            self._server.close()

        self._wait(close())
        self.cut()

    def come_back(self) -> None:
        self._server = self._wait(asyncio.start_server(self._serve, "127.0.0.1", self.port))

    def _wait(self, work):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(20)

    async def _stop(self) -> None:
        self._server.close()
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._tasks.add(task)
        upstream = None
        try:
            if self._tls:
                reader = writer = await Encrypted(self._tls, reader, writer).handshake()
            self.connections += 1
            up_reader, upstream = await asyncio.open_connection(*self._upstream)
            mute = asyncio.Event()
            ways = [
                asyncio.create_task(self._up(reader, upstream, mute)),
                asyncio.create_task(self._down(up_reader, writer, mute)),
            ]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
        except (OSError, EOFError, asyncio.CancelledError):
            pass  # ssl.SSLError is an OSError: failed handshakes are what some tests want
        finally:
            self._tasks.discard(task)
            for end in (writer, upstream):
                if end is not None:
                    with contextlib.suppress(Exception):
                        end.transport.abort()

    async def _up(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, mute: asyncio.Event) -> None:
        if self.hold_at or self.swallow_at:
            return await self._up_by_requests(reader, writer, mute)
        tail = b""
        while data := await reader.read(CHUNK):
            seen = tail + data
            if self.hold and self.hold in seen:
                self.stopped.set()
                while self.hold:
                    await asyncio.sleep(0.02)
            if self.swallow and self.swallow in seen:
                self.stopped.set()
                mute.set()
            tail = seen[-256:]
            if self.request_pause:
                await asyncio.sleep(self.request_pause)
            writer.write(data)
            await writer.drain()

    async def _up_by_requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, mute: asyncio.Event) -> None:
        """HTTP/2: the preface, then frames with a length of three bytes, a type, flags and a stream."""
        writer.write(await reader.readexactly(24))
        while True:
            head = await reader.readexactly(9)
            body = await reader.readexactly(int.from_bytes(head[:3], "big"))
            if head[3] == 1:  # HEADERS: a request begins
                self.requests += 1
                if self.requests == self.hold_at:
                    self.stopped.set()
                    await asyncio.Event().wait()
                if self.requests == self.swallow_at:
                    self.stopped.set()
                    mute.set()
            writer.write(head + body)
            await writer.drain()

    async def _down(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, mute: asyncio.Event) -> None:
        while data := await reader.read(CHUNK):
            if mute.is_set():
                self.answered.set()
                continue
            if self.pause:
                await asyncio.sleep(self.pause)
            writer.write(data)
            await writer.drain()
