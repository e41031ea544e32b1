"""Reads the DreamBooth dataset: one folder of photos for each subject, and `prompts_and_classes.txt` with its classes and prompts."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import UserError
from ..models.adapter import Piece

LIST_FILE = "prompts_and_classes.txt"
LIVE_CLASSES = frozenset({"cat", "dog"})  # the paper's 9 live subjects; the list file does not say which of its two lists is whose
IMAGES = (".jpg", ".jpeg", ".png", ".webp")
MAX_LIST_BYTES = 1 << 20

_CLASS_LINE = re.compile(r"([A-Za-z0-9_-]{1,64}),([A-Za-z][A-Za-z -]{0,63})")
_TEMPLATE_LINE = re.compile(r"""(['"])(.*)\1\.format\(unique_token, class_token\),?""")
_SUBJECT = "{0} {1}"  # the rare token and the class noun; what stands for the subject takes the place of both


@dataclass(frozen=True)
class ScenePrompt:
    """A prompt around its subject: "a", "in the jungle"."""

    before: str
    after: str

    def pieces(self, subject: Sequence[Piece]) -> list[Piece]:
        """The prompt for the model, with whatever stands for the subject in it."""
        return [*([self.before] if self.before else []), *subject, *([self.after] if self.after else [])]

    def text(self, noun: str) -> str:
        """The prompt for CLIP-T: the class noun, and no rare token, which CLIP does not know and the figure would be lowered by."""
        return " ".join(part for part in (self.before, noun, self.after) if part)


@dataclass(frozen=True)
class PromptLists:
    """What the list file says: the class noun of each subject, and the prompts for objects and for live subjects."""

    classes: dict[str, str]
    object_prompts: tuple[ScenePrompt, ...]
    live_prompts: tuple[ScenePrompt, ...]


@dataclass(frozen=True)
class PhotoSubject:
    """One subject of the dataset. `photos` are in the order of their names; the first is the one a one-image method is given."""

    name: str
    noun: str
    live: bool
    photos: tuple[Path, ...]
    prompts: tuple[ScenePrompt, ...]


def parse_lists(text: str) -> PromptLists:
    """The list file's content. The prompts are Python source in the dataset; they are matched as text, never run.

    Raises:
        UserError: no classes, no prompts, or a prompt without its subject.
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
            f"{len(prompts['object'])} and {len(prompts['live'])} prompts; take the file as it is in google/dreambooth"
        )
    return PromptLists(classes, tuple(prompts["object"]), tuple(prompts["live"]))


def _scene_prompt(template: str) -> ScenePrompt:
    before, found, after = template.partition(_SUBJECT)
    if not found or "{" in before + after:
        raise UserError(f"expected a prompt with {_SUBJECT!r} once, found {template[:80]!r} in {LIST_FILE}; mend that line")
    return ScenePrompt(before.strip(), after.strip())


def read_dataset(folder: Path, subjects: int | None = None, prompts: int | None = None) -> list[PhotoSubject]:
    """The subjects whose folders are there, in the order of their names.

    Args:
        subjects, prompts: take only the first so many (of each subject's 25 prompts); None takes all.
    Raises:
        UserError: the folder or its list is missing, or it holds none of the listed subjects, or a subject has no photo.
    """
    path = folder / LIST_FILE
    try:
        if path.stat().st_size > MAX_LIST_BYTES:
            raise UserError(f"{path} has more than {MAX_LIST_BYTES} bytes; take the file as it is in google/dreambooth")
        lists = parse_lists(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"{path} cannot be read ({getattr(error, 'strerror', None) or error}); expected the folder `dataset` of google/dreambooth"
        ) from error
    for what, number in (("subjects", subjects), ("prompts", prompts)):
        if number is not None and number < 1:
            raise UserError(f"expected at least 1 of the {what}, found {number}; leave --{what} out to take all")
    there = [name for name in sorted(lists.classes) if (folder / name).is_dir()][:subjects]
    if not there:
        raise UserError(f"{folder} holds none of the {len(lists.classes)} subjects of {LIST_FILE}; expected folders such as dog6 in it")
    return [_subject(folder / name, lists, prompts) for name in there]


def _subject(folder: Path, lists: PromptLists, prompts: int | None) -> PhotoSubject:
    photos = tuple(sorted(file for file in folder.iterdir() if file.suffix.lower() in IMAGES and not file.name.startswith(".")))
    if not photos:
        raise UserError(f"{folder} holds no photo (.jpg, .png or .webp); get the dataset again, or remove the folder")
    noun = lists.classes[folder.name]
    live = noun in LIVE_CLASSES
    chosen = lists.live_prompts if live else lists.object_prompts
    return PhotoSubject(folder.name, noun, live, photos, chosen[:prompts])
