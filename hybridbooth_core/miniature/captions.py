"""Captions and prompts of creatures in scenes, as pieces in which a subject's embeddings can stand."""

from __future__ import annotations

import torch
from torch import Tensor

from ..models.adapter import Prompt
from .vocabulary import NAMES
from .world import ACCESSORIES, BACKGROUNDS, KINDS, PATTERNS, PLACES, SIZES, SPLITS, STYLES, Creatures, Scenes, creatures

HUES = {"red": 0.0, "orange": 0.083, "yellow": 0.16, "lime": 0.25, "green": 0.35, "teal": 0.48, "blue": 0.62, "purple": 0.75,
        "magenta": 0.84, "pink": 0.92}  # fmt: skip

_WHERE = {"left": "on the left", "middle": "in the middle", "right": "on the right"}


def hue_word(hue: float) -> str:
    """The colour word nearest to a hue on the circle."""
    return min(HUES, key=lambda word: abs((hue - HUES[word] + 0.5) % 1.0 - 0.5))


def named_creatures() -> Creatures:
    """The train creatures named by `NAMES`, in that order."""
    return creatures(torch.arange(len(NAMES)) * 9973 + SPLITS["train"].start + 17)


def describe(who: Creatures, row: int, keep: float = 1.0, generator: torch.Generator | None = None) -> str:
    """A creature's noun phrase without article, "striped red and blue wide cat". Keeps each word but the noun with probability `keep`."""

    def kept() -> bool:
        return keep >= 1.0 or torch.rand((), generator=generator).item() < keep

    words = [PATTERNS[int(who.pattern[row])]] if kept() else []
    colours = [hue_word(float(hue)) for hue in who.hue[row] if kept()]
    words += [" and ".join(colours)] if colours else []
    aspect = float(who.aspect[row])
    if (aspect < 0.3 or aspect > 0.7) and kept():
        words.append("wide" if aspect > 0.7 else "narrow")
    return " ".join([*words, KINDS[int(who.kind[row])]])


def scene_prompt(where: Scenes, row: int, subject: Prompt, keep: float = 1.0, generator: torch.Generator | None = None) -> Prompt:
    """The prompt of `subject` in a scene: "a photo of a small" subject "with a hat on snow on the left at night".

    Names size, place and background with probability `keep` each. Names style and accessory always, since without them a prompt means a
    photo without accessory.
    """

    def kept(word: str) -> list[str]:
        return [word] if keep >= 1.0 or torch.rand((), generator=generator).item() < keep else []

    style, accessory = STYLES[int(where.style[row])], ACCESSORIES[int(where.accessory[row])]
    background = BACKGROUNDS[int(where.background[row])]
    before = ["a sketch of" if style == "sketch" else "a photo of", *kept("a"), *kept(SIZES[int(where.size[row])])]
    after = [] if accessory == "none" else [f"with a {accessory}"]
    after += kept("in space" if background == "space" else f"on {background}")
    after += kept(_WHERE[PLACES[int(where.place[row])]])
    after += [f"at {style}"] if style in ("night", "sunset") else []
    return [" ".join(before), *subject, " ".join(after)]


def random_captions(who: Creatures, where: Scenes, generator: torch.Generator, empty: float = 0.1) -> list[Prompt]:
    """Training captions: mostly dense descriptions, some sparse ones, and a fraction `empty` for classifier-free guidance."""
    captions: list[Prompt] = []
    for row in range(len(who)):
        roll = torch.rand(2, generator=generator)
        if roll[0] < empty:
            captions.append([""])
            continue
        noun = describe(who, row, keep=0.9 if roll[1] < 0.85 else 0.35, generator=generator)
        captions.append(scene_prompt(where, row, [noun], keep=0.9, generator=generator))
    return captions


def with_names(who: Creatures, where: Scenes, captions: list[Prompt], generator: torch.Generator, share: float = 0.15):
    """Replaces a random `share` of the rows by named creatures and their names; returns new creatures and captions."""
    rows = (torch.rand(len(who), generator=generator) < share).nonzero()[:, 0]
    chosen = torch.randint(len(NAMES), (len(rows),), generator=generator)
    stars = named_creatures()[chosen]
    fields = {name: getattr(who, name).clone().index_put_((rows,), getattr(stars, name)) for name in vars(who)}
    captions = list(captions)
    for star, (row, name) in enumerate(zip(rows.tolist(), chosen.tolist(), strict=True)):
        noun = [KINDS[int(stars.kind[star])]] if torch.rand((), generator=generator) < 0.5 else []
        captions[row] = scene_prompt(where, row, [" ".join([NAMES[name], *noun])], keep=0.9, generator=generator)
    return Creatures(**fields), captions


def mask_latent_weight(masks: Tensor, side: int, inside: float = 4.0) -> Tensor:
    """Loss weights [B, 1, side, side] from masks [B, H, W]: `inside` on the creature, 1 off it."""
    return 1 + (inside - 1) * torch.nn.functional.adaptive_avg_pool2d(masks[:, None], side)
