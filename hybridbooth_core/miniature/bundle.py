"""Loads the miniature world's weights from the folder beside this file (stored in float16, loaded as float32)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from torch import Tensor, nn

from ..encoders.clip_space import ClipSpace
from ..errors import UserError
from ..files.safetensors import read_header, read_tensors
from ..models.diffusers_adapter import DiffusersModel
from ..probe.hypernetwork import Hypernetwork
from ..probe.instant import InstantBooth
from ..probe.probe import Probe
from .nets import Autoencoder, ClipHeads, ImageEncoder, Judge

if TYPE_CHECKING:
    from .world_model import CaptionEncoder

WEIGHTS = Path(__file__).parent / "weights"
MAX_BYTES = 64 << 20
CLIP_ID, DINO_ID = "miniature/clip@1", "miniature/dino@1"

Net = TypeVar("Net", bound=nn.Module)


@dataclass(frozen=True, eq=False)
class Miniature:
    """The miniature world: the model, the probe and its encoders; for evaluation only, the judge and held-out encoders.

    `held_out` is another DINO, `held_out_clip` and `held_out_text` are another CLIP. `space` is the joint space of images and the model's
    text encoder.
    """

    model: DiffusersModel
    probe: Probe
    clip: ImageEncoder
    dino: ImageEncoder
    held_out: ImageEncoder
    held_out_clip: ImageEncoder
    held_out_text: CaptionEncoder
    judge: Judge
    space: ClipSpace


def _read(name: str, folder: Path) -> dict[str, Tensor]:
    path = folder / f"{name}.safetensors"
    if not path.exists():
        raise UserError(f"the miniature's weights {path.name} are missing; reinstall the package, or run `hybridbooth miniature train`")
    header, _ = read_header(path, "file of the miniature", MAX_BYTES)
    return read_tensors(path, "file of the miniature", header, {key: entry["shape"] for key, entry in header.items()})


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {key[len(prefix) + 1 :]: tensor for key, tensor in tensors.items() if key.startswith(prefix + ".")}


def _frozen(net: Net, tensors: dict[str, Tensor]) -> Net:
    # BatchNorm's integer counter is not stored, since inference does not use it
    own = {key: tensor.shape for key, tensor in net.state_dict().items() if not key.endswith("num_batches_tracked")}
    if own != {key: tensor.shape for key, tensor in tensors.items()}:
        raise UserError(f"the miniature's weights do not fit {type(net).__name__} of this version; reinstall the package")
    net.load_state_dict(tensors, strict=False)
    return net.eval().requires_grad_(False)


def read_base(folder: Path = WEIGHTS) -> dict[str, Tensor]:
    """State dict of the denoiser ("unet." + diffusers' names) and the text encoder ("text_model." + CLIP's names), float32."""
    return _read("base", folder)


def read_autoencoder(folder: Path = WEIGHTS) -> Autoencoder:
    return _frozen(Autoencoder(), _read("autoencoder", folder))


def load_model(folder: Path = WEIGHTS) -> DiffusersModel:
    """The text-to-image model on diffusers and transformers (the `demo` extra)."""
    from .world_model import new_text_encoder, new_unet, world_model

    tensors = read_base(folder)
    text = new_text_encoder()
    _frozen(getattr(text, "text_model", text), _part(tensors, "text_model"))  # transformers 4 wraps the transformer, 5 does not
    return world_model(_frozen(new_unet(), _part(tensors, "unet")), text.eval().requires_grad_(False), read_autoencoder(folder))


def load_probe(folder: Path = WEIGHTS) -> Probe:
    return Probe.load(folder / "probe.safetensors")


def load_hypernetwork(folder: Path = WEIGHTS) -> Hypernetwork:
    return Hypernetwork.load(folder / "hypernetwork.safetensors")


def load_adapter(folder: Path = WEIGHTS) -> InstantBooth:
    return InstantBooth.load(folder / "instantbooth.safetensors")


def load_encoders(folder: Path = WEIGHTS) -> tuple[ImageEncoder, ImageEncoder]:
    """The CLIP-like and the DINO-like encoder."""
    tensors = _read("readers", folder)
    return _frozen(ImageEncoder(), _part(tensors, "clip")), _frozen(ImageEncoder(), _part(tensors, "dino"))


def load_clip_space(folder: Path = WEIGHTS) -> ClipSpace:
    """The joint space of the CLIP-like encoder's images and the model's text encoder."""
    return _clip_space(load_encoders(folder)[0], folder)


def _clip_space(clip: ImageEncoder, folder: Path) -> ClipSpace:
    heads = _frozen(ClipHeads(), _read("clip_space", folder))
    return ClipSpace(lambda crops: heads.images(clip(crops)[:, 0]), clip.size, heads.text)


def load_miniature(folder: Path = WEIGHTS) -> Miniature:
    """Loads the whole world; UserError if a file is missing or does not fit."""
    from .world_model import CaptionEncoder

    clip, dino = load_encoders(folder)
    tensors = _read("readers", folder)
    held_out, held_out_clip = (_frozen(ImageEncoder(), _part(tensors, name)) for name in ("held_out", "held_out_clip"))
    held_out_text, judge = _frozen(CaptionEncoder(), _part(tensors, "held_out_text")), _frozen(Judge(), _part(tensors, "judge"))
    space = _clip_space(clip, folder)
    return Miniature(load_model(folder), load_probe(folder), clip, dino, held_out, held_out_clip, held_out_text, judge, space)


def manifest(folder: Path = WEIGHTS) -> dict:
    """The weights' manifest: sizes, training steps, seed and gate results."""
    return json.loads((folder / "manifest.json").read_text())
