"""What a base model is asked to draw for its own training set: descriptions of subjects, and scenes to put them in."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ..errors import UserError

MAX_BYTES = 1 << 20


@dataclass(frozen=True)
class Nouns:
    """Class nouns, and attributes that stand before them: one of each list, in this order."""

    nouns: tuple[str, ...]
    attributes: tuple[tuple[str, ...], ...] = ()


@dataclass(frozen=True)
class Vocabulary:
    """Groups of nouns, and scenes: the text before the subject's phrase and the text after it."""

    groups: tuple[Nouns, ...]
    scenes: tuple[tuple[str, str], ...]

    def __post_init__(self):
        texts = [text for group in self.groups for words in (group.nouns, *group.attributes) for text in words]
        if not all(group.nouns for group in self.groups) or not self.groups or len(self.scenes) < 2 or not all(map(str.strip, texts)):
            raise UserError("expected a vocabulary with groups of nouns and at least two scenes, none of them empty; see docs/data.md")

    @staticmethod
    def read(path: Path) -> Vocabulary:
        """A JSON file: {"groups": [{"nouns": [...], "attributes": [[...], ...]}], "scenes": [["a photo of a", "on a beach"], ...]}.

        Raises:
            UserError: it cannot be read, or has another form.
        """
        try:
            if path.stat().st_size > MAX_BYTES:
                raise UserError(f"{path.name} has more than {MAX_BYTES} bytes, too many for a vocabulary")
            table: Any = json.loads(path.read_text(encoding="utf-8-sig"))
            groups = tuple(Nouns(_texts(group["nouns"]), tuple(map(_texts, group.get("attributes", [])))) for group in table["groups"])
            return Vocabulary(groups, tuple((before, after) for before, after in map(_texts, table["scenes"])))
        except OSError as error:
            raise UserError(f"the vocabulary {path} cannot be read ({error.strerror}); check the path") from error
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise UserError(f"{path.name} is no vocabulary ({error}); see docs/data.md for its form") from error


def _texts(values: Any) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(value, str) and len(value) <= 200 for value in values):
        raise ValueError("a list of short texts is missing")
    return tuple(value.strip() for value in values)


@dataclass(frozen=True)
class Description:
    """One subject: its class noun, the words before it, and its scenes (text before and after)."""

    noun: str
    attributes: str
    scenes: tuple[tuple[str, str], ...]

    @property
    def phrase(self) -> str:
        return f"{self.attributes} {self.noun}".strip()


def describe(vocabulary: Vocabulary, generator: torch.Generator, views: int) -> Description:
    """A random description, and `views` different scenes. Every noun is equally likely."""

    def pick(options: Sequence[Any]) -> Any:
        return options[int(torch.randint(len(options), (), generator=generator))]

    group, noun = pick([(group, noun) for group in vocabulary.groups for noun in group.nouns])
    words = [pick(options) for options in group.attributes]  # all of them: what is left open, two scenes fill in differently
    order = torch.randperm(len(vocabulary.scenes), generator=generator)[:views].tolist()
    return Description(noun, " ".join(words), tuple(vocabulary.scenes[index] for index in order))
