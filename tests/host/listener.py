"""A browser's ears: the messages that ComfyUI sends over its websocket (RFC 6455), by the standard library alone."""

from __future__ import annotations

import base64
import json
import os
import socket
import struct
import threading
import time
from io import BytesIO
from typing import Any

from PIL import Image

TEXT, BINARY, CLOSE = 1, 2, 8  # of RFC 6455
PREVIEW, PROGRESS_TEXT, PREVIEW_WITH_METADATA = 1, 3, 4  # of ComfyUI's binary messages
QUIET = 0.5  # seconds without a message, after which all that was sent has been heard


class Listener:
    """Hears while it is open; `events`, `images` and `texts` are what was heard."""

    def __init__(self, address: str, client: str):
        host, port = address.split(":")
        self._socket = socket.create_connection((host, int(port)), timeout=30)
        key = base64.b64encode(os.urandom(16)).decode()
        self._socket.sendall(
            f"GET /ws?clientId={client} HTTP/1.1\r\nHost: {address}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        self._stream = self._socket.makefile("rb")
        assert b" 101 " in self._stream.readline(), "the host opened no websocket"
        while self._stream.readline().strip():
            pass
        self._messages: list[tuple[int, bytes]] = []
        self._last = time.monotonic()
        self._thread = threading.Thread(target=self._hear, daemon=True)

    def __enter__(self) -> Listener:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        while time.monotonic() - self._last < QUIET:
            time.sleep(0.05)
        self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join(10)
        self._socket.close()

    def events(self, kind: str) -> list[dict[str, Any]]:
        """The data of the JSON messages of a kind."""
        heard = [json.loads(payload) for code, payload in self._messages if code == TEXT]
        return [message["data"] for message in heard if message["type"] == kind]

    def images(self) -> list[Image.Image]:
        """The previews."""
        found = []
        for code, payload in self._binary():
            if code == PREVIEW:
                found.append(Image.open(BytesIO(payload[4:])))
            elif code == PREVIEW_WITH_METADATA:
                (length,) = struct.unpack(">I", payload[:4])
                found.append(Image.open(BytesIO(payload[4 + length :])))
        return found

    def texts(self) -> list[str]:
        """The lines shown on nodes."""
        found = []
        for code, payload in self._binary():
            if code == PROGRESS_TEXT:
                (length,) = struct.unpack(">I", payload[:4])
                found.append(payload[4 + length :].decode())
        return found

    def _binary(self) -> list[tuple[int, bytes]]:
        return [(struct.unpack(">I", payload[:4])[0], payload[4:]) for code, payload in self._messages if code == BINARY]

    def _hear(self) -> None:
        whole, kind = b"", 0
        while True:
            head = self._stream.read(2)
            if len(head) < 2:
                return
            code, length = head[0] & 15, head[1] & 127
            if length == 126:
                (length,) = struct.unpack(">H", self._stream.read(2))
            elif length == 127:
                (length,) = struct.unpack(">Q", self._stream.read(8))
            payload = self._stream.read(length)
            if code == CLOSE:
                return
            kind, whole = (code or kind), whole + payload
            if head[0] & 128:
                if kind in (TEXT, BINARY):
                    self._messages.append((kind, whole))
                    self._last = time.monotonic()
                whole = b""
