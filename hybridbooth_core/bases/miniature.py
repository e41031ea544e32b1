"""The miniature world as a base: it comes with the package, so that everything can be tried without a download."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import UserError
from .base import Base, SamplingDefaults

if TYPE_CHECKING:
    import torch

    from ..data.vocabulary import Vocabulary
    from ..encoders.clip_space import ClipSpace
    from ..encoders.features import FeatureEncoder
    from ..miniature.example import Example
    from ..models.diffusers_adapter import DiffusersModel
    from ..probe.hypernetwork import Hypernetwork
    from ..probe.instant import InstantBooth
    from ..probe.learner import Learner, Reads
    from ..probe.probe import Probe
    from ..training.callbacks import Callbacks
    from ..training.config import TrainConfig
    from ..training.context import TrainingContext
    from ..training.presets import Presets


@dataclass(frozen=True, eq=False)
class Miniature(Base):
    """64 x 64 pixels, 96 numbers a token, a probe of its own."""

    family = "miniature"
    title = "the miniature world"
    width = 96
    sampling = SamplingDefaults(15, 3.0)
    class_images = SamplingDefaults(15, 3.0)
    scenes = ("a photo of <{name}> with a hat on snow", "a photo of <{name}> on the left on grass", "a photo of <{name}> at night in space")
    largest_image = 128
    dtypes = ("float32",)
    batch = 64
    own_probe = family

    @classmethod
    def recognises(cls, source: str) -> bool:
        return source == cls.family

    @classmethod
    def load(cls, source: str, device: torch.device, dtype: torch.dtype, comfyui: Path | None = None) -> Miniature:
        from ..miniature.bundle import load_model

        return cls(load_model().to(device), source)

    def example(self, number: int) -> Example:
        from ..miniature.example import example

        return example(number)

    def default_probe(self) -> Probe:
        from ..miniature.bundle import load_probe

        return load_probe().to(self.model.device)

    def default_hypernetwork(self) -> Hypernetwork | None:
        from ..miniature.bundle import load_hypernetwork

        return load_hypernetwork()

    def default_adapter(self) -> InstantBooth | None:
        from ..miniature.bundle import load_adapter

        return load_adapter()

    @classmethod
    def vocabulary(cls) -> Vocabulary:
        from ..miniature.drawing_words import vocabulary

        return vocabulary()

    @classmethod
    def new_probe_fields(cls, dino: str) -> dict[str, Any]:
        from ..miniature.training.probe import new_probe_fields

        return new_probe_fields("resampler")

    @classmethod
    def reads_with(cls, config: Reads) -> bool:
        from ..miniature.bundle import CLIP_ID, DINO_ID

        return (config.clip, config.dino) == (CLIP_ID, DINO_ID)

    @classmethod
    def encoders(
        cls,
        config: Reads,
        folders: Sequence[Path] = (),
        clip_vision: FeatureEncoder | None = None,
        device: torch.device | str = "cpu",
    ) -> tuple[FeatureEncoder, FeatureEncoder]:
        from ..miniature.bundle import load_encoders

        if not cls.reads_with(config):
            raise UserError(
                f"the probe reads images with {config.clip} and {config.dino}, which the miniature does not have; use its own probe"
            )
        return load_encoders()

    @classmethod
    def presets(cls) -> Presets:
        from ..miniature.training.learners import CONFIGS
        from ..miniature.training.probe import CONFIG

        return {
            cls.family: ("the miniature world's own probe, on a CPU, downloading nothing", lambda: CONFIG),
            "miniature-hypernetwork": ("its hypernetwork", lambda: CONFIGS["hypernetwork"]),
            "miniature-adapter": ("its InstantBooth adapter", lambda: CONFIGS["instantbooth"]),
        }

    @classmethod
    def prepare_training(
        cls, config: TrainConfig, device: torch.device, model: DiffusersModel | None = None
    ) -> tuple[TrainingContext, Learner, Callbacks]:
        from ..miniature.training.probe import prepare_miniature_training

        return prepare_miniature_training(config, device, model)

    def clip_space(self, folders: Sequence[Path] = ()) -> ClipSpace:
        from ..miniature.bundle import load_clip_space

        return load_clip_space()
