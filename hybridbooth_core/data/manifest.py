"""What is finished, so that a run that was killed at any moment goes on as if nothing had happened.

A shard is finished when its tar has its name. Its line in the journal is on the disk before that, so the last line may speak of a shard
that is not there: such a line is dropped, with what the log says after the line before it.
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
from .shards import INDEX, LEFT_OUT, PROGRESS, Index, Shard, partial_shard, read_index, shard_name, writing

MAX_LICENCES, OTHER = 64, "other"  # what is counted by name, since every shard's line repeats the counts; the rest is one number

START: dict[str, Any] = {
    "counts": {"read": 0, "kept": 0, "with_mask": 0, "with_class": 0, "licences": {}, "left_out": dict.fromkeys(REASONS, 0)},
    "names": "",  # hash of the names of all that was read
    "log": 0,  # bytes of the log
}


class Manifest:
    """The progress of one run in its folder. Use it in a `with`: it keeps the folder for itself meanwhile.

    Attributes:
        shards: the finished ones. state: where the source and the counts stood after the last of them.
    """

    def __init__(self, folder: Path, config: dict[str, Any]):
        """Raises UserError: the folder holds something else, was begun with other settings, or is in use."""
        self.folder, self.shards, self.state = folder, [], copy.deepcopy(START)
        self._names = hashlib.sha256()
        header = json.dumps({"config": config}) + "\n"
        if not folder.parent.is_dir():
            raise UserError(f"the folder {folder.parent} does not exist; make it, or choose another place")
        with writing(folder):
            folder.mkdir(exist_ok=True)
            path = folder / PROGRESS
            if not path.exists() and any(folder.iterdir()):
                raise UserError(f"{folder} holds other files; choose an empty folder, or a new one")
            self._file = path.open("a+b")
        try:
            self._keep_alone()
            self._file.seek(0)
            lines = self._file.read().split(b"\n")[:-1]  # a line that was cut off is none
            self._check_config(lines, config)
            end = self._resume(lines)
            with writing(folder):
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

    def _keep_alone(self) -> None:
        try:
            import fcntl
        except ImportError:  # Windows does not let two processes rename over each other's open files anyway
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(f"another `hybridbooth prepare` is at work in {self.folder}; wait for it, or choose another folder") from error

    def _check_config(self, lines: list[bytes], config: dict[str, Any]) -> None:
        if lines:
            check_config(self.folder, _table(lines[0], self.folder).get("config"), config)

    def _resume(self, lines: list[bytes]) -> int:
        """Take over what is finished. Returns how many bytes of the journal stay."""
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
                raise UserError(f"{path.name} is missing from {self.folder}; put it back, or begin again in another folder") from error
            if not whole:
                raise UserError(f"{path} has been changed since it was made; put it back, or begin again in another folder")
            self.shards.append(shard)
            self.state = entry
            end += len(line) + 1
        return end

    def pass_over(self, items: Iterator[Item]) -> None:
        """Pass over what was read before; UserError if the source no longer is what it was."""
        for item in islice(items, self.state["counts"]["read"]):
            self._add_name(item)
        if self.shards and self._names.hexdigest() != self.state["names"]:
            raise UserError(f"the names in the source are no longer those that {self.folder} was begun with; choose another folder")

    def _add_name(self, item: Item) -> None:
        self._names.update(item.name.encode("utf-8", "surrogatepass") + b"\0")

    def count(self, item: Item) -> None:
        """An image was looked at."""
        self.state["counts"]["read"] += 1
        self._add_name(item)

    def keep(self, masked: bool, named: bool, licence: str) -> None:
        """It will be in the next shard, with or without a mask and a class noun."""
        counts = self.state["counts"]
        for what, number in (("kept", 1), ("with_mask", masked), ("with_class", named)):
            counts[what] += int(number)
        licences = counts.setdefault("licences", {})  # a run that an earlier version began has none
        name = licence if licence in licences or len(licences) < MAX_LICENCES else OTHER
        licences[name] = licences.get(name, 0) + 1

    def leave_out(self, name: str, error: LeftOut) -> None:
        """Count an image that is not used, and name it in the log."""
        self.state["counts"]["left_out"][error.reason] += 1
        with writing(self.folder):
            self._log.write(json.dumps({"name": name, "reason": error.reason, "found": error.detail}).encode() + b"\n")

    def finish(self, shard: Shard) -> None:
        """Keep a shard that stands beside its place."""
        with writing(self.folder):
            fsync(self._log)
            self.state |= {"log": self._log.tell(), "names": self._names.hexdigest()}
            self._file.write(json.dumps({"shard": asdict(shard), **self.state}).encode() + b"\n")
            fsync(self._file)
            move(partial_shard(self.folder, len(self.shards)), self.folder / shard.name, durable=True)
        self.shards.append(shard)

    def complete(self, config: dict[str, Any]) -> Index:
        """Nothing is left to read: write the index, which tells all from now on."""
        index = Index(config, self.state["counts"], tuple(self.shards))
        with writing(self.folder):
            fsync(self._log)
            index.write(self.folder)
            (self.folder / PROGRESS).unlink()
        return index


def check_config(folder: Path, begun: Any, config: dict[str, Any]) -> None:
    """UserError that names what differs between the settings a folder was begun with and those of now."""
    if not isinstance(begun, dict):
        raise UserError(f"{folder} was begun by another version; choose another folder")
    for name, value in config.items():
        if begun.get(name) != value:
            raise UserError(
                f"{folder} was begun with {name} {_short(begun.get(name))}, now it is {_short(value)}; "
                "use the settings of before, or choose another folder"
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
        raise UserError(f"{folder / PROGRESS} is damaged; begin again in another folder")
    return entry


def finished(folder: Path, config: dict[str, Any]) -> Index | None:
    """The index of a folder that is complete, None of one that is not; UserError if it was made with other settings."""
    if not (folder / INDEX).exists():
        return None
    index = read_index(folder)
    check_config(folder, index.config, config)
    (folder / PROGRESS).unlink(missing_ok=True)  # the run was killed between its last two steps
    return index
