"""The creatures and scenes of the miniature world.

A *creature* is an identity: its kind (the class noun) and attributes that words describe only in part, such as colours, pattern and
proportions. A *scene* is what a prompt describes: background, place, size, accessory and style.

Creatures are numbered. Number `i` is the same creature on every machine, since its attributes are hashes of `i`. Three separate ranges of
numbers are the train, tune and test splits; no network is trained and no option is chosen on the test split.

Axes: B creatures or scenes.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

KINDS = ("cat", "rabbit", "robot", "fish")
PATTERNS = ("plain", "striped", "banded", "spotted", "checked", "half")
BACKGROUNDS = ("grass", "snow", "sand", "brick", "water", "space")
PLACES = ("left", "middle", "right")
SIZES = ("small", "big")
ACCESSORIES = ("none", "hat", "crown")
STYLES = ("photo", "sketch", "night", "sunset")

SPLITS = {"train": range(0, 1_000_000), "tune": range(1_000_000, 1_010_000), "test": range(2_000_000, 2_010_000)}


class _Batch:
    """Indexing of both dataclasses: `batch[rows]` selects rows of every field."""

    def __getitem__(self, rows):
        return type(self)(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})  # type: ignore[arg-type]

    def __len__(self) -> int:
        return len(getattr(self, fields(self)[0].name))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Creatures(_Batch):
    """B identities. Integer fields are int64 [B], the others float32."""

    number: Tensor
    kind: Tensor  # into KINDS
    hue: Tensor  # [B, 2] in 0..1, body colour and second colour, at least .2 apart on the circle
    saturation: Tensor  # [B, 2] in .55...95
    value: Tensor  # [B, 2] in .5..1
    pattern: Tensor  # into PATTERNS
    frequency: Tensor  # 0..1, coarse to fine
    aspect: Tensor  # 0..1, narrow to wide
    ear: Tensor  # 0..1, short to long (antenna of a robot, tail of a fish)
    eye: Tensor  # 0..1, small to large


@dataclass(frozen=True)
class Scenes(_Batch):
    """B scenes. All fields are int64 [B] except `jitter`, float32 [B, 3] in -1..1 (x, y, size), which prompts do not describe."""

    background: Tensor
    place: Tensor
    size: Tensor
    accessory: Tensor
    style: Tensor
    jitter: Tensor


def split_numbers(split: str, count: int, start: int = 0) -> Tensor:
    """The creature numbers `start .. start + count - 1` of a split, int64 [count]; ValueError outside the split's range."""
    if split not in SPLITS:
        raise ValueError(f"expected one of the splits {', '.join(SPLITS)}, found {split!r}")
    numbers = SPLITS[split]
    if start < 0 or count < 0 or start + count > len(numbers):
        raise ValueError(f"expected creatures 0 to {len(numbers) - 1} of the {split} split, found {start} to {start + count - 1}")
    return torch.arange(numbers.start + start, numbers.start + start + count)


def _hash01(number: Tensor, salt: int) -> Tensor:
    """Uniform float32 in [0, 1) from integers by splitmix64's finaliser, whose int64 arithmetic is equal on every machine."""
    z = number * -7046029254386353131 + torch.tensor(salt + 1) * -4658895280553007687
    z = (z ^ ((z >> 30) & 0x3_FFFF_FFFF)) * -4658895280553007687
    z = (z ^ ((z >> 27) & 0x1F_FFFF_FFFF)) * -7723592293110705685
    z = z ^ ((z >> 31) & 0x1_FFFF_FFFF)
    return ((z >> 40) & 0xFF_FFFF).to(torch.float64).div(1 << 24).to(torch.float32)


def creatures(numbers: Tensor) -> Creatures:
    """The creatures with these numbers (int64 [B])."""
    number = numbers.to(torch.int64)
    u = [_hash01(number, salt) for salt in range(12)]
    hue = torch.stack([u[1], (u[1] + 0.2 + 0.6 * u[2]) % 1.0], 1)
    return Creatures(
        number=number,
        kind=(u[0] * len(KINDS)).long(),
        hue=hue,
        saturation=0.55 + 0.4 * torch.stack([u[3], u[4]], 1),
        value=0.5 + 0.5 * torch.stack([u[5], u[6]], 1),
        pattern=(u[7] * len(PATTERNS)).long(),
        frequency=u[8],
        aspect=u[9],
        ear=u[10],
        eye=u[11],
    )


def random_scenes(count: int, generator: torch.Generator) -> Scenes:
    """Scenes with random attributes; half of them have the style "photo"."""

    def draw(options: tuple[str, ...]) -> Tensor:
        return torch.randint(len(options), (count,), generator=generator, device=generator.device)

    style = draw(STYLES) * (torch.rand(count, generator=generator, device=generator.device) < 0.67)
    return Scenes(
        background=draw(BACKGROUNDS),
        place=draw(PLACES),
        size=draw(SIZES),
        accessory=draw(ACCESSORIES),
        style=style,
        jitter=torch.rand(count, 3, generator=generator, device=generator.device) * 2 - 1,
    )


def scene(background: str, place: str = "middle", size: str = "big", accessory: str = "none", style: str = "photo") -> Scenes:
    """One scene (a batch of one, without jitter); ValueError for an unknown word."""
    chosen = {}
    for name, word, options in (
        ("background", background, BACKGROUNDS),
        ("place", place, PLACES),
        ("size", size, SIZES),
        ("accessory", accessory, ACCESSORIES),
        ("style", style, STYLES),
    ):
        if word not in options:
            raise ValueError(f"expected {name} to be one of {', '.join(options)}, found {word!r}")
        chosen[name] = torch.tensor([options.index(word)])
    return Scenes(**chosen, jitter=torch.zeros(1, 3))


def repeat(batch, times: int):
    """Repeats every row `times` times, like `torch.repeat_interleave`."""
    return batch[torch.arange(len(batch)).repeat_interleave(times)]
