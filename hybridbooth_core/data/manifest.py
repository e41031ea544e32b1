"""Records the progress of `prepare`, so that a run that was killed at any moment can continue.

A shard is complete when its tar has its final name. Its line in the manifest is fsynced before the rename, so the last line may describe
a shard that does not exist: then that line is dropped, together with log entries that followed the line before it.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

from ..errors import UserError
from ..files.atomic import fsync, fsync_folder, move, remove_partials
from .items import REASONS, Item, LeftOut
from .shards import INDEX, LEFT_OUT, PROGRESS, Index, Shard, disk_errors, partial_shard, read_index, shard_name

MAX_LICENCES, OTHER = 64, "other"  # licences counted by name, since every line repeats the counts; the others are added up

START: dict[str, Any] = {
    "counts": {"read": 0, "kept": 0, "with_mask": 0, "with_class": 0, "licences": {}, "left_out": dict.fromkeys(REASONS, 0)},
    "names": "",  # hash of the names of all images read
    "log": 0,  # bytes of LEFT_OUT
}


class Manifest:
    """The progress of one run in its folder. A context manager that locks the folder against other runs.

    Attributes:
        shards: the complete ones. state: counts and position in the source after the last of them.
    """

    def __init__(self, folder: Path, config: dict[str, Any]):
        """Raises UserError: the folder contains other files, was started with other settings, or is in use."""
        self.folder, self.shards, self.state = folder, [], copy.deepcopy(START)
        self._names = hashlib.sha256()
        header = json.dumps({"config": config}) + "\n"
        if not folder.parent.is_dir():
            raise UserError(f"the folder {folder.parent} does not exist; create it, or choose another one")
        with disk_errors(folder):
            folder.mkdir(exist_ok=True)
            path = folder / PROGRESS
            if not path.exists() and any(folder.iterdir()):
                raise UserError(f"{folder} contains other files; choose an empty or new folder")
            self._file = path.open("a+b")
        try:
            self._lock()
            self._file.seek(0)
            lines = self._file.read().split(b"\n")[:-1]  # without an incomplete last line
            self._check_config(lines, config)
            end = self._resume(lines)
            with disk_errors(folder):
                remove_partials(folder)
                self._file.truncate(end)
                if not end:
                    self._file.write(header.encode())
                fsync(self._file)
                self._log = (folder / LEFT_OUT).open("ab")
                self._log.truncate(self.state["log"])
                self._log.seek(0, os.SEEK_END)
                fsync_folder(folder)
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Manifest:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
        self._log.close()
        partial_shard(self.folder, len(self.shards)).unlink(missing_ok=True)

    def _lock(self) -> None:
        try:
            import fcntl
        except ImportError:  # on Windows, files that another process has open cannot be replaced anyway
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(f"another `hybridbooth prepare` is running in {self.folder}; wait for it, or choose another folder") from error

    def _check_config(self, lines: list[bytes], config: dict[str, Any]) -> None:
        if lines:
            check_config(self.folder, _table(lines[0], self.folder).get("config"), config)

    def _resume(self, lines: list[bytes]) -> int:
        """Restores the complete shards. Returns the number of valid bytes of the manifest."""
        end = len(lines[0]) + 1 if lines else 0
        for number, line in enumerate(lines[1:]):
            entry = _table(line, self.folder)
            path = self.folder / shard_name(number)
            if not path.exists() and number == len(lines) - 2:
                break
            try:
                shard = Shard(**entry.pop("shard"))
                whole = path.stat().st_size == shard.bytes and shard.name == path.name
            except (OSError, ValueError, TypeError, KeyError) as error:
                raise UserError(f"{path.name} is missing from {self.folder}; put it back, or start again in another folder") from error
            if not whole:
                raise UserError(f"{path} was changed; put it back, or start again in another folder")
            self.shards.append(shard)
            self.state = entry
            end += len(line) + 1
        return end

    def skip(self, items: Iterator[Item]) -> None:
        """Skips the items that were read before; UserError if the source has changed."""
        for item in islice(items, self.state["counts"]["read"]):
            self._add_name(item)
        if self.shards and self._names.hexdigest() != self.state["names"]:
            raise UserError(f"the source has changed since {self.folder} was started; choose another folder")

    def _add_name(self, item: Item) -> None:
        self._names.update(item.name.encode("utf-8", "surrogatepass") + b"\0")

    def count(self, item: Item) -> None:
        """Counts an image that was read."""
        self.state["counts"]["read"] += 1
        self._add_name(item)

    def keep(self, masked: bool, named: bool, licence: str) -> None:
        """Counts an image that goes into the next shard, and whether it has a mask and a class noun."""
        counts = self.state["counts"]
        for what, number in (("kept", 1), ("with_mask", masked), ("with_class", named)):
            counts[what] += int(number)
        licences = counts.setdefault("licences", {})  # missing in runs that an earlier version started
        name = licence if licence in licences or len(licences) < MAX_LICENCES else OTHER
        licences[name] = licences.get(name, 0) + 1

    def leave_out(self, name: str, error: LeftOut) -> None:
        """Counts an image that is left out, and logs its name."""
        self.state["counts"]["left_out"][error.reason] += 1
        with disk_errors(self.folder):
            self._log.write(json.dumps({"name": name, "reason": error.reason, "found": error.detail}).encode() + b"\n")

    def finish(self, shard: Shard) -> None:
        """Records a shard that was written by `write_partial`, and gives it its final name."""
        with disk_errors(self.folder):
            fsync(self._log)
            self.state |= {"log": self._log.tell(), "names": self._names.hexdigest()}
            self._file.write(json.dumps({"shard": asdict(shard), **self.state}).encode() + b"\n")
            fsync(self._file)
            move(partial_shard(self.folder, len(self.shards)), self.folder / shard.name, durable=True)
        self.shards.append(shard)

    def complete(self, config: dict[str, Any]) -> Index:
        """Writes the index, which replaces the manifest. Returns it."""
        index = Index(config, self.state["counts"], tuple(self.shards))
        with disk_errors(self.folder):
            fsync(self._log)
            index.write(self.folder)
            (self.folder / PROGRESS).unlink()
        return index


def check_config(folder: Path, stored: Any, config: dict[str, Any]) -> None:
    """UserError if the settings that a folder was started with differ from the present ones."""
    if not isinstance(stored, dict):
        raise UserError(f"{folder} was started by another version; choose another folder")
    for name, value in config.items():
        if stored.get(name) != value:
            raise UserError(
                f"{folder} was started with {name} {_short(stored.get(name))}, now it is {_short(value)}; "
                "use the same settings, or choose another folder"
            )


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 120 else text[:117] + "..."


def _table(line: bytes, folder: Path) -> dict[str, Any]:
    try:
        entry = json.loads(line)
    except ValueError:
        entry = None
    if not isinstance(entry, dict) or not (entry.keys() == {"config"} or entry.keys() == {"shard", *START}):
        raise UserError(f"{folder / PROGRESS} is damaged; start again in another folder")
    return entry


def finished(folder: Path, config: dict[str, Any]) -> Index | None:
    """The index of a complete folder, None if it is not complete; UserError if it was made with other settings."""
    if not (folder / INDEX).exists():
        return None
    index = read_index(folder)
    check_config(folder, index.config, config)
    (folder / PROGRESS).unlink(missing_ok=True)  # the run was killed between its last two operations
    return index
