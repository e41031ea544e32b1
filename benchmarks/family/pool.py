"""Works through many tasks in processes of one thread each, and keeps every finished one at once."""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed

import torch
from tqdm import tqdm

from hybridbooth_core.methods.prior_images import Prior
from hybridbooth_core.miniature.bundle import Miniature, load_miniature

from .store import Store

Task = Callable[[Miniature, Prior], dict]
"""Measures something and returns its record; with more than one job it is pickled, so it is a function of a module or a partial of one."""

Workers = Callable[[Mapping[str, Task]], Iterator[tuple[str, dict]]]
"""Does tasks, named by their keys, in any order; yields each key with its record."""

_here: tuple[Miniature, Prior] | None = None


def start_worker() -> None:
    """Load the world into this process, once. One thread: on small networks two processes of one thread beat one process of two."""
    global _here
    torch.set_num_threads(1)
    if _here is None:
        world = load_miniature()
        _here = world, Prior(world.model)  # class images are functions of their seed, so every process draws the same ones


def _work(task: Task) -> dict:
    start_worker()
    assert _here is not None
    return task(*_here)


def in_process(tasks: Mapping[str, Task]) -> Iterator[tuple[str, dict]]:
    """One after the other, here."""
    for key, task in tasks.items():
        yield key, _work(task)


def _start_child() -> None:
    """`start_worker` in a process of the pool, which ends when its parent is killed: nothing would keep what it measures."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    start_worker()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def in_pool(jobs: int) -> Workers:
    """In so many processes. An error in a task, or a listener that stops, cancels what has not begun."""

    def work(tasks: Mapping[str, Task]) -> Iterator[tuple[str, dict]]:
        os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1")  # read when a child imports torch
        pool = ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), _start_child)
        try:
            waiting = {pool.submit(_work, task): key for key, task in tasks.items()}
            for done in as_completed(waiting):
                yield waiting[done], done.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    return work if jobs > 1 else in_process


def run_tasks(tasks: Mapping[str, Task], store: Store, workers: Workers, title: str) -> dict[str, dict]:
    """The records of all tasks by key: those in the store, and the others, which are done now and stored one by one."""
    missing = {key: task for key, task in tasks.items() if key not in store}
    with tqdm(total=len(tasks), initial=len(tasks) - len(missing), desc=title, unit="unit", dynamic_ncols=True) as bar:
        for key, record in workers(missing) if missing else ():
            store.add(key, record)
            bar.update()
    return {key: store[key] for key in tasks}
