"""Turns a source of images into a folder of shards: ordered, resumable, reproducible."""

from __future__ import annotations

import json
import os
import warnings
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from ..errors import UserError
from . import folders, tars
from .items import REASONS, Item, LeftOut
from .manifest import Manifest, finished
from .masks import MaskMaker
from .samples import Sample, Standards, read_sample
from .shards import FEATURES, IMAGE, MASK, NOTES, UNKNOWN, Index, disk_errors, write_partial

if TYPE_CHECKING:
    from .cache import FeatureCache
    from .drawing import Drawing

FEATURE_BATCH = 4  # images per batch of the frozen networks: an autoencoder takes up to 1 GB for each
AHEAD = 2  # images per worker that are read in advance


def open_source(paths: Sequence[Path]) -> Iterator[Item]:
    """The images of one folder, of the tars directly in it, or of several tars, always in the same order.

    Raises:
        UserError: a path is neither a folder nor a tar.
    """
    if len(paths) == 1 and paths[0].is_dir():
        inside = sorted(path for path in _tars_in(paths[0]))
        return tars.images_in(inside) if inside else folders.images_in(paths[0])
    for path in paths:
        if path.suffix.lower() != ".tar" or not path.is_file():
            raise UserError(f"expected one folder of images, or .tar files (not compressed), found {path}; check the path")
    return tars.images_in(paths)


def _tars_in(folder: Path) -> Iterator[Path]:
    with os.scandir(folder) as entries:
        yield from (Path(entry) for entry in entries if entry.name.endswith(".tar") and not entry.name.startswith("."))


def prepare(
    source: Sequence[Path] | Drawing,
    out: Path,
    standards: Standards,
    shard_samples: int = 128,
    maker: MaskMaker | None = None,
    cache: FeatureCache | None = None,
    workers: int | None = None,
    on_event: Callable[[Mapping[str, Any]], None] | None = None,
) -> Index:
    """Writes shards of a source's images, or continues an interrupted run. Returns their index, which is written last.

    The same source and settings give the same bytes on the same machine, however often the run was killed.

    Args:
        source: see `open_source`; or a base model that draws.
        out: a new or empty folder, or one to continue.
        shard_samples: images per shard; the last shard may have fewer.
        workers: images that are read in parallel; None takes the number of cores.
        on_event: called with the counts after each image.
    Raises:
        UserError: the source or the folder cannot be used, the disk is full, or no image is kept.
    """
    if not 1 <= shard_samples <= 100_000:
        raise UserError(f"expected 1 to 100000 samples in a shard, found {shard_samples}")
    config = {
        **asdict(standards),
        "shard_samples": shard_samples,
        "masks": maker.config if maker else None,
        "features": cache.config if cache else None,
    }
    if not isinstance(source, Sequence):
        config["drawing"] = source.config
    config = json.loads(json.dumps(config))
    items = open_source(source) if isinstance(source, Sequence) else source.items()
    index = finished(out, config)
    if index is not None:
        return index
    with Manifest(out, config) as manifest, warnings.catch_warnings():
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # `images` rejects images that are too large
        manifest.skip(items)
        read = _in_order(lambda item: read_sample(item, standards, maker), items, workers or os.cpu_count() or 1)
        with closing(read), closing(_kept(read, manifest, on_event)) as kept:
            while samples := list(islice(kept, shard_samples)):
                number = len(manifest.shards)
                with disk_errors(out):
                    shard = write_partial(out, number, _members(samples, number * shard_samples, cache))
                manifest.finish(shard)
        if not manifest.shards:
            counts = manifest.state["counts"]
            raise UserError(f"none of the {counts['read']} images can be used ({reasons(counts)}); see {out}")
        return manifest.complete(config)


def _in_order(function: Callable[[Item], Sample], items: Iterable[Item], workers: int) -> Generator[tuple[Item, Future[Sample]]]:
    """Each item with its future result, in the order of the items; AHEAD * workers are computed in advance."""
    pool, waiting = ThreadPoolExecutor(workers), deque()
    try:
        for item in items:
            waiting.append((item, pool.submit(function, item)))
            if len(waiting) > AHEAD * workers:
                yield waiting.popleft()
        while waiting:
            yield waiting.popleft()
    finally:
        pool.shutdown(cancel_futures=True)


def _kept(
    read: Iterable[tuple[Item, Future[Sample]]], manifest: Manifest, on_event: Callable[[Mapping[str, Any]], None] | None
) -> Generator[Sample]:
    """The samples that are kept. The manifest counts these and the others."""
    for item, future in read:
        manifest.count(item)
        sample = None
        try:
            sample = future.result()
            notes = sample.notes
            manifest.keep(sample.mask is not None, notes["class_word"] is not None, str(notes["licence"] or UNKNOWN))
        except LeftOut as error:
            manifest.leave_out(item.name, error)
        if on_event:
            on_event(manifest.state["counts"])
        if sample is not None:
            yield sample


def _members(samples: Sequence[Sample], first: int, cache: FeatureCache | None) -> Iterator[tuple[str, dict[str, bytes]]]:
    """Keys, and the content of each member by extension. Features are always computed in the same batches."""
    for start in range(0, len(samples), FEATURE_BATCH):
        batch = samples[start : start + FEATURE_BATCH]
        notes: list[dict[str, Any]] = [dict(sample.notes) for sample in batch]
        features: list[bytes] = []
        if cache:
            views = [cache.view(str(sample.notes["source"]), sample.mask is not None) for sample in batch]
            notes = [{**table, "reference": view} for table, view in zip(notes, views, strict=True)]
            features = cache([sample.image for sample in batch], [sample.mask for sample in batch], views)
        for row, sample in enumerate(batch):
            parts = {IMAGE: sample.image, NOTES: json.dumps(notes[row]).encode()}
            if sample.mask is not None:
                parts[MASK] = sample.mask
            if features:
                parts[FEATURES] = features[row]
            yield f"{first + start + row:09d}", parts


def reasons(counts: Mapping[str, Any]) -> str:
    """The numbers of images that were left out by reason, as text."""
    left_out = [f"{number} {reason}: {REASONS[reason]}" for reason, number in counts["left_out"].items() if number]
    return "; ".join(left_out) or "there are none"
