"""What a bench has measured so far: one JSON record a line, so that a killed run continues where it stopped."""

from __future__ import annotations

import json
from pathlib import Path

from hybridbooth_core.errors import UserError
from hybridbooth_core.files.atomic import fsync, write_atomic


class Store:
    """Records by key, in `folder`/units.jsonl. A line that was cut off by a kill is dropped; of one key the last record counts."""

    def __init__(self, folder: Path):
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self.path = folder / "units.jsonl"
            text = self.path.read_text() if self.path.exists() else ""
        except OSError as error:
            raise UserError(f"the work folder {folder} cannot be used ({error.strerror or error}); choose another place") from error
        self._records: dict[str, dict] = {}
        whole = text.endswith("\n") or not text
        lines = text.splitlines()
        for line in lines if whole else lines[:-1]:
            try:
                entry = json.loads(line)
                self._records[entry["key"]] = entry["record"]
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(f"{self.path} is damaged ({error}); delete it to measure again") from error
        if not whole:
            self._rewrite()

    def __contains__(self, key: str) -> bool:
        return key in self._records

    def __getitem__(self, key: str) -> dict:
        return self._records[key]

    def __len__(self) -> int:
        return len(self._records)

    def add(self, key: str, record: dict) -> None:
        """Keep a record for good; on the disk before this returns."""
        self._records[key] = record
        with self.path.open("a") as file:
            file.write(json.dumps({"key": key, "record": record}) + "\n")
            fsync(file)

    def forget(self, method: str) -> int:
        """Drop all records of a method (the second part of their keys). Returns how many there were."""
        gone = [key for key in self._records if key.split("/")[1] == method]
        for key in gone:
            del self._records[key]
        if gone:
            self._rewrite()
        return len(gone)

    def _rewrite(self) -> None:
        lines = [json.dumps({"key": key, "record": record}) + "\n" for key, record in self._records.items()]
        write_atomic(self.path, "".join(lines))
