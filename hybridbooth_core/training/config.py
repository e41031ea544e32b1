"""All settings of a training, as frozen dataclasses. Options of the command line, config.json and checkpoints mirror them."""

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
LearnerKind = Literal["probe", "hypernetwork", "instantbooth"]


class _Strict:
    """Configures pydantic for the dataclasses below: no type conversion, and unknown settings are errors."""

    __pydantic_config__ = {"strict": True, "extra": "forbid"}  # noqa: RUF012


@dataclass(frozen=True)
class Data(_Strict):
    """Training images and their augmentation."""

    shards: Path | None = None
    """Folder made by `hybridbooth prepare`. The miniature renders its own images without one."""
    validation: Path | None = None
    """Shards of held-out images. Without them, validation uses training images with fixed noise."""
    cached: bool = False
    """Read tokens and latents from the shards instead of loading the encoders and the autoencoder. Rules out augmentation."""
    interleave: int = 8
    """Number of shards that are read in turns; each is held in memory. A multiple of the number of processes."""
    cross_pairs: bool = True
    """Use different images of an identity as reference and target, so that the embeddings cannot copy the background."""
    neutral: float = 0.5
    """Fraction of prompts that say nothing of the target's scene. In photos, the others name a background colour that is painted in."""
    condition_drop: float = 0.1
    """Fraction of prompts that consist of the subject's token embeddings only. (A frozen model learns nothing from empty prompts.)"""
    masked: float = 0.8
    """Fraction of masked images that the encoders see cropped to the subject; they see the others uncropped."""
    background: float = 0.5
    """Fraction of those crops whose background is noise, a colour or another image of the shard instead of grey."""
    augment: float = 0.5
    """Fraction of reference images that are flipped, zoomed and changed in brightness and contrast. Targets are not augmented."""

    def __post_init__(self):
        _shares(self, "neutral", "condition_drop", "masked", "background", "augment")
        _positive(self, "interleave")


@dataclass(frozen=True)
class ProbeShape(_Strict):
    """Architecture of the probe."""

    regressor: Literal["promptnet", "resampler"] = "promptnet"
    """promptnet starts as the encoder half of the UNet (0.36 B parameters in Stable Diffusion 1.5); resampler is a tenth of that."""
    num_tokens: int = 5
    """Number of token embeddings per subject: 5 as in the paper, at most 75."""
    sizes: dict[str, Any] = field(default_factory=dict)
    """Layer sizes of the regressor. Others are taken from the UNet (promptnet) or are defaults (resampler)."""

    def __post_init__(self):
        _positive(self, "num_tokens")


@dataclass(frozen=True)
class HypernetworkShape(_Strict):
    """Architecture of a hypernetwork (`--learner hypernetwork`)."""

    inner: int = 512
    """Hidden width of the decoder."""
    layers: int = 2
    """Of the decoder."""
    heads: int = 8
    """Of its attentions."""
    iterations: int = 2
    """How often the decoder corrects its own prediction; training draws from 1 to this."""
    subspace: tuple[int, int] = (100, 50)
    """Numbers on the output's and on the input's side of each matrix."""
    targets: Literal["unet", "unet+text", "all"] = "all"
    """Layers: the denoiser's attentions; the text encoder's too; its MLPs too."""
    token: str = ""
    """Text before the class noun that the weights answer to; empty takes the model's rarest."""

    def __post_init__(self):
        _positive(self, "inner", "layers", "heads", "iterations")


@dataclass(frozen=True)
class AdapterShape(_Strict):
    """Architecture of InstantBooth's adapter (`--learner instantbooth`)."""

    heads: int = 8
    """Of every adapter layer."""
    alpha: float = 0.4
    """Of the concept token when images are drawn, 0 to 2. The paper's; 1 after a training on cross pairs."""
    beta: float = 0.3
    """Of the adapter layers when images are drawn, 0 to 2."""

    def __post_init__(self):
        _positive(self, "heads")


@dataclass(frozen=True)
class Loss(_Strict):
    """Loss weights and timesteps."""

    times: tuple[float, float] = (0.0, 1.0)
    """Part of the noise schedule that timesteps are drawn from. At low noise the noisy image itself already shows the subject."""
    background: float = 0.125
    """Weight of the background in the denoising loss; the subject has weight 1."""
    mask_weight: float = 1e-3
    """Weight of the mask regularisation (alpha in the paper)."""
    norm_weight: float = 1e-3
    """Weight of what the learner keeps small: the squared norm of a probe's embeddings, relative to the vocabulary's mean norm, or of a
    hypernetwork's differences."""

    def __post_init__(self):
        low, high = self.times
        if not 0 <= low < high <= 1:
            raise UserError(f"expected --loss.times as two increasing numbers from 0 to 1, found {low} and {high}")
        _shares(self, "background")


@dataclass(frozen=True)
class Optim(_Strict):
    """Optimizer settings."""

    kind: OptimizerKind = "adamw"
    """muon: Muon for matrices and convolutions, AdamW for the rest; for networks trained from scratch."""
    lr: float = 2e-5
    """Peak learning rate of AdamW."""
    muon_lr: float = 2.5e-3
    """Peak learning rate of Muon."""
    weight_decay: float = 1e-2
    """Decoupled weight decay of matrices; biases and gains are not decayed."""
    warmup: int = 500
    """Steps of linear warm-up."""
    decay: float = 0.0
    """Fraction of the steps, at the end, over which the learning rates fall linearly to zero."""
    clip: float = 1.0
    """Maximum gradient norm."""
    ema: float = 0.9999
    """Decay of the moving average of the weights, which is validated and exported."""

    def __post_init__(self):
        _positive(self, "lr", "muon_lr", "clip")
        _shares(self, "decay", "ema")


@dataclass(frozen=True)
class LogConfig(_Strict):
    """Logging, validation and checkpoint intervals, in steps."""

    log_every: int = 20
    """Losses, gradient norm, learning rate, samples per second and memory."""
    validate_every: int = 1000
    """Loss on fixed images and noise; also after the first hundredth of the steps, with a verdict on whether the probe learns."""
    validation_samples: int = 64
    """Number of images per validation."""
    grid_every: int = 5000
    """Sample grid of some subjects: reference, predicted, refined, new contexts. 0: none."""
    grid_subjects: int = 4
    """Rows of the sample grid."""
    grid_steps: int = 25
    """Sampling steps of the images in the grid."""
    save_every: int = 1000
    """Checkpoint. Later steps are lost when the training is stopped."""
    keep: int = 3
    """Number of newest checkpoints to keep."""

    def __post_init__(self):
        _positive(self, "log_every", "validate_every", "validation_samples", "grid_subjects", "grid_steps", "save_every", "keep")


@dataclass(frozen=True)
class TrainConfig(_Strict):
    """One training run of a probe, a hypernetwork or an adapter."""

    out: Path = Path("probe_run")
    """Folder of the run: configuration, checkpoints, training curve, sample grids."""
    model: str = "miniature"
    """The frozen model: a Stable Diffusion 1.5 as a diffusers folder, or `miniature`."""
    encoders: tuple[Path, ...] = ()
    """Folders that contain CLIP ViT-L/14 and DINOv2. Not needed with cached tokens."""
    dino: Literal["L", "B", "S"] = "L"
    """Size of DINOv2."""
    steps: int = 80_000
    """Optimizer steps."""
    batch: int = 8
    """Samples per optimizer step, over all processes."""
    micro_batch: int = 8
    """Samples per forward pass of a process; gradients are accumulated over the batch."""
    dtype: Dtype = "bfloat16"
    """Of the frozen UNet and of autocast; the probe's weights are float32."""
    checkpointing: bool = False
    """Activation checkpointing: less memory, a third slower."""
    seed: int = 0
    """Decides the initial weights, the order of the images and all noise."""
    device: str = ""
    """cpu, cuda or cuda:1; empty takes a GPU if there is one."""
    price: float = 0.0
    """Price of this machine in dollars per hour, for the cost estimate of --dry-run."""
    learner: LearnerKind = "probe"
    """What is trained: HybridBooth's probe, HyperDreamBooth's hypernetwork or InstantBooth's adapter."""
    data: Data = field(default_factory=Data)
    probe: ProbeShape = field(default_factory=ProbeShape)
    hypernetwork: HypernetworkShape = field(default_factory=HypernetworkShape)
    adapter: AdapterShape = field(default_factory=AdapterShape)
    loss: Loss = field(default_factory=Loss)
    optim: Optim = field(default_factory=Optim)
    log: LogConfig = field(default_factory=LogConfig)

    def __post_init__(self):
        _positive(self, "steps", "batch", "micro_batch")
        if self.batch % self.micro_batch:
            raise UserError(
                f"expected a batch divisible by the micro-batch, found {self.batch} and {self.micro_batch}; change --micro-batch"
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
        """Micro-batches per process and step for `world` processes; UserError if the batch is not divisible."""
        if self.batch % (self.micro_batch * world):
            raise UserError(
                f"a batch of {self.batch} does not divide into micro-batches of {self.micro_batch} on {world} processes; "
                "choose a multiple of their product"
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
"""Names of fields in the runs and checkpoints of 0.1."""

OLD_DTYPES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


def to_json(config: TrainConfig) -> dict[str, Any]:
    """The configuration as JSON types."""
    return json.loads(json.dumps(dataclasses.asdict(config), default=str))


def from_json(table: Any) -> TrainConfig:
    """The configuration of a JSON object, as this version or 0.1 wrote it. Missing settings get their defaults.

    Raises:
        UserError: a setting is unknown, has the wrong type, or is out of range.
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
        reason = str(refused) if isinstance(refused, UserError) else _describe(first["type"], first["loc"], first["msg"], first["input"])
        raise UserError(f"the configuration of the training is damaged ({reason}); correct it, or start a new one") from error


def _renamed(table: Any) -> Any:
    """A JSON object with old names and values of settings replaced."""
    if not isinstance(table, dict):
        return table
    renamed = {_OLD_NAMES.get(name, name): value if name == "sizes" else _renamed(value) for name, value in table.items()}
    if isinstance(dtype := renamed.get("dtype"), str):
        renamed["dtype"] = OLD_DTYPES.get(dtype, dtype)
    return renamed


def _describe(kind: str, path: tuple[int | str, ...], message: str, found: Any) -> str:
    """One of pydantic's errors in a few words."""
    name = ".".join(map(str, path))[:80] or "the file"
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
