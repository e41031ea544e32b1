"""Prepares batches in a background thread, so that the GPU does not wait for image decoding."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterator
from typing import Generic, TypeVar

Item = TypeVar("Item")


class Prefetcher(Generic[Item]):
    """Prefetches up to `depth` items of an endless iterator. `waited`: total seconds that `next` has waited."""

    def __init__(self, items: Iterator[Item], depth: int = 3):
        self.waited = 0.0
        self._queue: queue.Queue[tuple[Item | None, BaseException | None]] = queue.Queue(depth)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._fill, args=(items,), daemon=True)
        self._thread.start()

    def next(self) -> Item:
        """The next item. Raises what the iterator raised."""
        start = time.perf_counter()
        item, error = self._queue.get()
        self.waited += time.perf_counter() - start
        if error is not None:
            raise error
        return item  # type: ignore[return-value]

    def close(self) -> None:
        self._stop.set()
        while self._thread.is_alive():
            try:
                self._queue.get(timeout=0.05)
            except queue.Empty:
                continue

    def _fill(self, items: Iterator[Item]) -> None:
        try:
            for item in items:
                if not self._put((item, None)):
                    return
            self._put((None, RuntimeError("the source of batches ended")))
        except BaseException as error:
            self._put((None, error))

    def _put(self, entry: tuple[Item | None, BaseException | None]) -> bool:
        while not self._stop.is_set():
            try:
                self._queue.put(entry, timeout=0.05)
                return True
            except queue.Full:
                continue
        return False
