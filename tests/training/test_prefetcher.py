"""Batches made ahead, in another thread."""

import itertools
import threading
from types import SimpleNamespace

import pytest

from hybridbooth_core.training import prefetcher as module
from hybridbooth_core.training.prefetcher import Prefetcher


@pytest.fixture
def feed_of():
    """A function: items to a feed, closed at the end."""
    feeds = []

    def make(items, **options):
        feeds.append(Prefetcher(items, **options))
        return feeds[-1]

    yield make
    for feed in feeds:
        feed.close()


def test_items_come_in_their_order(feed_of):
    feed = feed_of(itertools.count())
    assert [feed.next() for _ in range(50)] == list(range(50))


def test_not_more_is_made_ahead_than_asked_for(feed_of):
    made, enough = [], threading.Event()

    def items():
        for number in itertools.count():
            made.append(number)
            if number == 3:
                enough.set()
            yield number

    feed = feed_of(items(), depth=2)
    assert feed.next() == 0 and enough.wait(30)  # two wait in the queue and one in the thread's hand
    assert not _spins(lambda: len(made) > 4)
    assert made == [0, 1, 2, 3]


def _spins(happens, times=200):
    """Whether something happens while the other thread gets its turns."""
    pause = threading.Event()
    return any(happens() or pause.wait(0.001) for _ in range(times))


def test_what_the_items_raise_is_raised_where_they_are_taken(feed_of):
    def items():
        yield 1
        raise KeyError("the shard")

    feed = feed_of(items())
    assert feed.next() == 1
    with pytest.raises(KeyError, match="the shard"):
        feed.next()


def test_an_end_is_an_error(feed_of):
    feed = feed_of(iter([1]))
    assert feed.next() == 1
    with pytest.raises(RuntimeError, match="source of batches ended"):
        feed.next()


@pytest.mark.parametrize("taken", [0, 2])
def test_closing_ends_the_thread_and_what_the_items_hold(taken, feed_of):
    closed = threading.Event()

    def items():
        try:
            yield from itertools.count()
        finally:
            closed.set()

    feed = feed_of(items(), depth=1)
    for _ in range(taken):
        feed.next()
    feed.close()
    assert not feed._thread.is_alive() and closed.wait(30)
    feed.close()


def test_waiting_is_counted(feed_of, monkeypatch):
    clock = itertools.count(step=5)
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    feed = feed_of(itertools.count())
    assert feed.waited == 0
    for _ in range(3):
        feed.next()
    assert feed.waited == 15
