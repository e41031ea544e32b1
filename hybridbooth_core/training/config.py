"""Everything that decides a training, as frozen dataclasses: the command line, the run folder and the checkpoints say it in this form."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch

from ..errors import UserError

Dtype = Literal["float32", "bfloat16", "float16"]
OptimizerKind = Literal["adamw", "muon"]


class _Strict:
    """How pydantic reads the tables below: no value is converted to another type, and no setting is passed over."""

    __pydantic_config__ = {"strict": True, "extra": "forbid"}  # noqa: RUF012


@dataclass(frozen=True)
class Data(_Strict):
    """What is looked at, and what of it is drawn."""

    shards: Path | None = None
    """A folder made by `hybridbooth prepare`. The miniature draws its own images and needs none."""
    validation: Path | None = None
    """Shards of images that are not trained on. Without them the validation looks at training images, with noise of its own."""
    cached: bool = False
    """Take tokens and latents from the shards, so that neither encoders nor autoencoder are loaded. Then nothing can be augmented."""
    interleave: int = 8
    """Shards that are read in turns; each is in memory whole. A multiple of the number of processes."""
    cross_pairs: bool = True
    """Of identities with several images, look at one and draw another, so that words cannot carry what surrounds the subject."""
    neutral: float = 0.5
    """Share of the prompts that say nothing of the target's scene. Of photos the others say a background that was put there."""
    condition_drop: float = 0.1
    """Share of the prompts that are the words alone. (Words left out would teach a frozen model nothing.)"""
    masked: float = 0.8
    """Share of the masked images that the encoders see cropped to the subject; the others they see whole."""
    background: float = 0.5
    """Share of those crops in which the encoders see another background than grey: noise, a colour, or another image of its shard."""
    augment: float = 0.5
    """Share of the images that the encoders see mirrored, nearer or farther, or in other light. What is drawn stays as it is."""

    def __post_init__(self):
        _shares(self, "neutral", "condition_drop", "masked", "background", "augment")
        _positive(self, "interleave")


@dataclass(frozen=True)
class ProbeShape(_Strict):
    """What is trained."""

    regressor: Literal["promptnet", "resampler"] = "promptnet"
    """promptnet starts from the denoiser's encoder half (0.36 B for Stable Diffusion 1.5); the resampler is a tenth of that."""
    num_tokens: int = 5
    """Word embeddings that stand for a subject, 5 as in the paper; at most 75."""
    sizes: dict[str, Any] = field(default_factory=dict)
    """Of the regressor; a promptnet takes those not named from the denoiser, a resampler from its defaults."""

    def __post_init__(self):
        _positive(self, "num_tokens")


@dataclass(frozen=True)
class Loss(_Strict):
    """What is asked of the words."""

    times: tuple[float, float] = (0.0, 1.0)
    """Share of the noise schedule that is trained on. At low noise the image itself shows who it is."""
    background: float = 0.125
    """Weight of what is not the subject, whose own weight is 1."""
    mask_weight: float = 1e-3
    """Of the mask regularisation (the paper's alpha)."""
    norm_weight: float = 1e-3
    """Of the squared length of the words, in units of the vocabulary's."""

    def __post_init__(self):
        low, high = self.times
        if not 0 <= low < high <= 1:
            raise UserError(f"expected --loss.times as two growing shares of the schedule in 0..1, found {low} and {high}")
        _shares(self, "background")


@dataclass(frozen=True)
class Optim(_Strict):
    """How the weights follow the gradient."""

    kind: OptimizerKind = "adamw"
    """muon: Muon for matrices and convolutions, AdamW for the rest; for networks that start from nothing."""
    lr: float = 2e-5
    """Learning rate of AdamW at its full height."""
    muon_lr: float = 2.5e-3
    """Learning rate of Muon; AdamW beside it takes lr."""
    weight_decay: float = 1e-2
    """Share of the rate by which matrices shrink at each step; vectors do not."""
    warmup: int = 500
    """Steps in which the rates rise to their full height."""
    decay: float = 0.0
    """Share of the steps, at the end, over which the rates fall to zero."""
    clip: float = 1.0
    """Largest norm of the gradient."""
    ema: float = 0.9999
    """Of the moving average of the weights, which is what is validated and exported."""

    def __post_init__(self):
        _positive(self, "lr", "muon_lr", "clip")
        _shares(self, "decay", "ema")


@dataclass(frozen=True)
class LogConfig(_Strict):
    """What is written down on the way, and how often (in steps)."""

    log_every: int = 20
    """A line of the curve: losses, the gradient's length, the rate, samples a second, memory."""
    validate_every: int = 1000
    """The loss on fixed images and noise; also after the first hundredth of the steps, with a word on whether it learns."""
    validation_samples: int = 64
    """Images of a validation."""
    grid_every: int = 5000
    """An image of some subjects: reference, probe, refined, new contexts. 0: none."""
    grid_subjects: int = 4
    """Rows of that image."""
    grid_steps: int = 25
    """Sampling steps of its images."""
    save_every: int = 1000
    """A checkpoint; what is later is lost if the training is stopped."""
    keep: int = 3
    """Checkpoints that stay; the oldest goes first."""

    def __post_init__(self):
        _positive(self, "log_every", "validate_every", "validation_samples", "grid_subjects", "grid_steps", "save_every", "keep")


@dataclass(frozen=True)
class TrainConfig(_Strict):
    """A training of a probe."""

    out: Path = Path("probe_run")
    """Its folder: configuration, checkpoints, curve, boards."""
    model: str = "miniature"
    """The frozen model: a Stable Diffusion 1.5 as a diffusers folder, or `miniature`."""
    encoders: tuple[Path, ...] = ()
    """Folders that hold CLIP ViT-L/14 and DINOv2. Not needed with cached tokens."""
    dino: Literal["L", "B", "S"] = "L"
    """Size of DINOv2."""
    steps: int = 80_000
    """Updates of the weights."""
    batch: int = 8
    """Samples of a step, over all processes."""
    micro_batch: int = 8
    """Samples that a process computes at once; gradients add up until the batch is full."""
    dtype: Dtype = "bfloat16"
    """Of the frozen denoiser and of autocast; trained weights are float32."""
    checkpointing: bool = False
    """Compute blocks a second time on the way back instead of keeping what they computed: less memory, a third slower."""
    seed: int = 0
    """Of the untrained weights, the order of the images and all noise."""
    device: str = ""
    """cpu, cuda; empty: a GPU where there is one."""
    price: float = 0.0
    """Dollars that an hour of this machine costs, for the forecast."""
    data: Data = field(default_factory=Data)
    probe: ProbeShape = field(default_factory=ProbeShape)
    loss: Loss = field(default_factory=Loss)
    optim: Optim = field(default_factory=Optim)
    log: LogConfig = field(default_factory=LogConfig)

    def __post_init__(self):
        _positive(self, "steps", "batch", "micro_batch")
        if self.batch % self.micro_batch:
            raise UserError(
                f"expected a batch that its micro-batch divides, found {self.batch} and {self.micro_batch}; change --micro-batch"
            )
        if self.data.cached and (self.data.augment or self.data.background):
            raise UserError(
                "cached tokens cannot be augmented: with --data.cached also set --data.augment 0 --data.background 0, or train without it"
            )
        if not 0 <= self.seed < 1 << 32:
            raise UserError(f"expected a seed from 0 to {(1 << 32) - 1}, found {self.seed}")

    @property
    def torch_dtype(self) -> torch.dtype:
        return getattr(torch, self.dtype)

    def accumulation(self, world: int) -> int:
        """Micro-batches that each of `world` processes computes for one step; UserError if the batch does not divide so."""
        if self.batch % (self.micro_batch * world):
            raise UserError(
                f"a batch of {self.batch} does not divide into micro-batches of {self.micro_batch} on {world} processes; "
                "choose a batch that is a multiple of both together"
            )
        return self.batch // (self.micro_batch * world)


_OLD_NAMES = {
    "base": "model",
    "precision": "dtype",
    "words": "num_tokens",
    "watch": "log",
    "lanes": "interleave",
    "board_every": "grid_every",
    "board_subjects": "grid_subjects",
    "board_steps": "grid_steps",
}
"""What fields were called in the runs and checkpoints of 0.1."""

OLD_DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


def to_json(config: TrainConfig) -> dict[str, Any]:
    """The configuration in JSON's types."""
    return json.loads(json.dumps(dataclasses.asdict(config), default=str))


def from_json(table: Any) -> TrainConfig:
    """The configuration of a table in JSON's types, of this version or of 0.1; what the table leaves out has its default.

    Raises:
        UserError: a setting is unknown, has a value of another type, or makes no sense.
    """
    try:
        from pydantic import TypeAdapter, ValidationError
    except ImportError as error:
        raise UserError('training needs the package pydantic; run: pip install "hybridbooth[train]"') from error

    try:
        return TypeAdapter(TrainConfig).validate_json(json.dumps(_renamed(table)))
    except ValidationError as error:
        first = error.errors()[0]
        refused = first.get("ctx", {}).get("error")
        found = str(refused) if isinstance(refused, UserError) else _described(first["type"], first["loc"], first["msg"], first["input"])
        raise UserError(f"the configuration of the training is damaged ({found}); correct it, or start a new one") from error


def _renamed(table: Any) -> Any:
    """A table, and the tables in it, with the names and values of this version."""
    if not isinstance(table, dict):
        return table
    renamed = {_OLD_NAMES.get(name, name): value if name == "sizes" else _renamed(value) for name, value in table.items()}
    if isinstance(dtype := renamed.get("dtype"), str):
        renamed["dtype"] = OLD_DTYPES.get(dtype, dtype)
    return renamed


def _described(kind: str, path: tuple[int | str, ...], message: str, found: Any) -> str:
    """pydantic's first error as half a sentence."""
    name = ".".join(map(str, path))[:80] or "the table"
    if kind == "unexpected_keyword_argument":
        return f"{name} is no setting"
    return f"{name}: {message[0].lower()}{message[1:]}, found {str(found)[:80]!r}"


def _shares(part: Any, *names: str) -> None:
    for name in names:
        value = getattr(part, name)
        if not 0 <= value <= 1:
            raise UserError(f"expected {name} from 0 to 1, found {value}")


def _positive(part: Any, *names: str) -> None:
    for name in names:
        value = getattr(part, name)
        if not value > 0:
            raise UserError(f"expected {name} above 0, found {value}")
