"""Reads the DreamBooth dataset: one folder of photos per subject, and `prompts_and_classes.txt` with classes and prompts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import UserError
from ..models.adapter import Piece

LIST_FILE = "prompts_and_classes.txt"
LIVE_CLASSES = frozenset({"cat", "dog"})  # the paper's 9 live subjects; the list file does not assign its two prompt lists to classes
IMAGES = (".jpg", ".jpeg", ".png", ".webp")
MAX_LIST_BYTES = 1 << 20

_CLASS_LINE = re.compile(r"([A-Za-z0-9_-]{1,64}),([A-Za-z][A-Za-z -]{0,63})")
_TEMPLATE_LINE = re.compile(r"""(['"])(.*)\1\.format\(unique_token, class_token\),?""")
_SUBJECT = "{0} {1}"  # the rare token and the class noun; the subject replaces both


@dataclass(frozen=True)
class ScenePrompt:
    """The text before and after the subject of a prompt: "a", "in the jungle"."""

    before: str
    after: str

    def pieces(self, subject: Sequence[Piece]) -> list[Piece]:
        """The prompt for the model, with the subject's pieces in place."""
        return [*([self.before] if self.before else []), *subject, *([self.after] if self.after else [])]

    def text(self, noun: str) -> str:
        """The prompt for CLIP-T: with the class noun and without the rare token, which would lower the score."""
        return " ".join(part for part in (self.before, noun, self.after) if part)


@dataclass(frozen=True)
class PromptLists:
    """The contents of the list file: each subject's class noun, and the prompts for objects and for live subjects."""

    classes: dict[str, str]
    object_prompts: tuple[ScenePrompt, ...]
    live_prompts: tuple[ScenePrompt, ...]


@dataclass(frozen=True)
class PhotoSubject:
    """One subject of the dataset. `photos` are sorted by name; a one-image method gets the first."""

    name: str
    noun: str
    live: bool
    photos: tuple[Path, ...]
    prompts: tuple[ScenePrompt, ...]


def parse_lists(text: str) -> PromptLists:
    """Parses the list file. Its prompts are Python source, which is matched as text and never run.

    Raises:
        UserError: there are no classes or no prompts, or a prompt has no subject.
    """
    classes: dict[str, str] = {}
    prompts: dict[str, list[ScenePrompt]] = {"object": [], "live": []}
    section = ""
    for line in (raw.strip() for raw in text.splitlines()):
        heading = line.lower()
        if heading in ("classes", "object prompts", "live subject prompts"):
            section = heading.split()[0]
        elif section == "classes" and (match := _CLASS_LINE.fullmatch(line)) and line != "subject_name,class":
            classes[match[1]] = match[2]
        elif section in prompts and (match := _TEMPLATE_LINE.fullmatch(line)):
            prompts[section].append(_scene_prompt(match[2]))
    if not classes or not all(prompts.values()):
        raise UserError(
            f"expected classes, object prompts and live subject prompts in {LIST_FILE}, found {len(classes)} classes, "
            f"{len(prompts['object'])} and {len(prompts['live'])} prompts; use the original file of google/dreambooth"
        )
    return PromptLists(classes, tuple(prompts["object"]), tuple(prompts["live"]))


def _scene_prompt(template: str) -> ScenePrompt:
    before, found, after = template.partition(_SUBJECT)
    if not found or "{" in before + after:
        raise UserError(f"expected a prompt with {_SUBJECT!r} once, found {template[:80]!r} in {LIST_FILE}; fix that line")
    return ScenePrompt(before.strip(), after.strip())


def read_dataset(folder: Path, subjects: int | None = None, prompts: int | None = None) -> list[PhotoSubject]:
    """The subjects that have a folder, sorted by name.

    Args:
        subjects, prompts: maximum number of subjects, and of prompts per subject; None uses all.
    Raises:
        UserError: the folder or its list file is missing, it contains none of the listed subjects, or a subject has no photo.
    """
    path = folder / LIST_FILE
    try:
        if path.stat().st_size > MAX_LIST_BYTES:
            raise UserError(f"{path} is larger than {MAX_LIST_BYTES} bytes; use the original file of google/dreambooth")
        lists = parse_lists(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path} cannot be read ({getattr(error, 'strerror', None) or error}); expected the folder `dataset` of google/dreambooth"
        ) from error
    for what, number in (("subjects", subjects), ("prompts", prompts)):
        if number is not None and number < 1:
            raise UserError(f"expected at least 1 of the {what}, found {number}; leave --{what} out to use all")
    names = [name for name in sorted(lists.classes) if (folder / name).is_dir()][:subjects]
    if not names:
        raise UserError(f"expected folders such as dog6 in {folder}, found none of the {len(lists.classes)} subjects of {LIST_FILE}")
    return [_subject(folder / name, lists, prompts) for name in names]


def _subject(folder: Path, lists: PromptLists, prompts: int | None) -> PhotoSubject:
    photos = tuple(sorted(file for file in folder.iterdir() if file.suffix.lower() in IMAGES and not file.name.startswith(".")))
    if not photos:
        raise UserError(f"{folder} contains no photo (.jpg, .png or .webp); download the dataset again, or remove the folder")
    noun = lists.classes[folder.name]
    live = noun in LIVE_CLASSES
    chosen = lists.live_prompts if live else lists.object_prompts
    return PhotoSubject(folder.name, noun, live, photos, chosen[:prompts])
