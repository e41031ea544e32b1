"""What is said of a base model in one place, so that no other module asks which base it has."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ..errors import UserError

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from ..data.drawing import Drawing
    from ..data.vocabulary import Vocabulary
    from ..encoders.clip_space import ClipSpace
    from ..encoders.features import FeatureEncoder
    from ..files.adapter_weights import AdapterWeights
    from ..files.subject import Subject
    from ..miniature.example import Example
    from ..models.adapter import ProbeTeacher
    from ..models.diffusers_adapter import DiffusersModel
    from ..probe.hypernetwork import Hypernetwork
    from ..probe.instant import InstantBooth
    from ..probe.learner import Learner, Reads
    from ..probe.probe import Probe
    from ..probe.reading import Reading
    from ..training.callbacks import Callbacks
    from ..training.config import TrainConfig
    from ..training.context import TrainingContext
    from ..training.presets import Presets


@dataclass(frozen=True)
class SamplingDefaults:
    """How images are drawn where nothing else is said: steps, classifier-free guidance, and a sampler (see `sampling.generate`)."""

    steps: int
    guidance: float
    sampler: str = ""


@dataclass(frozen=True, eq=False)
class Base(ABC):
    """A text-to-image model and everything that belongs to it alone.

    Attributes:
        family: the ModelSpec name of its family ("stable-diffusion-v1"), or "miniature". It goes into every file made for the base.
        width: of its token embeddings.
        sampling: how images are drawn where nothing else is said.
        class_images: how the class images of prior preservation are drawn.
        scenes: prompts for a demo, with {name} for the subject's name.
        largest_image: pixels a side above which a reference image is refused; 0 for no limit.
        dtypes: what its denoiser may compute in.
        own_probe: the training preset of a probe on the base's own drawings.
        batch: images that are drawn at once where nobody says how many.
        hub_model: its id on model hubs, "" where it has none.
        model: the model behind the adapter, frozen.
        source: what it was loaded from.
    """

    family: ClassVar[str]
    title: ClassVar[str]
    width: ClassVar[int]
    sampling: ClassVar[SamplingDefaults]
    class_images: ClassVar[SamplingDefaults]
    scenes: ClassVar[tuple[str, ...]]
    largest_image: ClassVar[int] = 0
    dtypes: ClassVar[tuple[str, ...]]
    batch: ClassVar[int]
    own_probe: ClassVar[str]
    hub_model: ClassVar[str] = ""

    model: DiffusersModel
    source: str

    @classmethod
    @abstractmethod
    def recognises(cls, source: str) -> bool:
        """Whether `source` (a name, path or hub id) may be such a base."""

    @classmethod
    @abstractmethod
    def load(cls, source: str, device: torch.device, dtype: torch.dtype, comfyui: Path | None = None) -> Base:
        """The base on a device, its denoiser in `dtype`. `comfyui` is a ComfyUI folder that may help. UserError says what is missing."""

    @abstractmethod
    def default_probe(self) -> Probe | None:
        """The probe that comes with the base, None where there is none."""

    def default_hypernetwork(self) -> Hypernetwork | None:
        """The hypernetwork that comes with the base, None where there is none."""
        return None

    def default_adapter(self) -> InstantBooth | None:
        """The InstantBooth adapter that comes with the base, None where there is none."""
        return None

    @classmethod
    @abstractmethod
    def reads_with(cls, config: Reads) -> bool:
        """Whether a probe reads images with encoders of this base."""

    @classmethod
    @abstractmethod
    def encoders(
        cls,
        config: Reads,
        folders: Sequence[Path] = (),
        clip_vision: FeatureEncoder | None = None,
        device: torch.device | str = "cpu",
    ) -> tuple[FeatureEncoder, FeatureEncoder]:
        """The CLIP and the DINO encoder of a probe, on the CPU; see `encoders.load_encoders`."""

    @abstractmethod
    def clip_space(self, folders: Sequence[Path] = ()) -> ClipSpace | None:
        """The space that CLIP shares between images and the base's own texts; None where its file is not in `folders`."""

    @classmethod
    @abstractmethod
    def presets(cls) -> Presets:
        """Training configurations to begin with: by name, what each is for and a function that makes it."""

    @classmethod
    @abstractmethod
    def prepare_training(
        cls, config: TrainConfig, device: torch.device, model: DiffusersModel | None = None
    ) -> tuple[TrainingContext, Learner, Callbacks]:
        """What a training starts from: frozen networks and data, the untrained learner, and the base's callbacks.

        Args:
            model: the configuration's model where it is loaded already; its dtype changes to the configuration's.
        """

    @classmethod
    @abstractmethod
    def new_probe_fields(cls, dino: str) -> dict[str, Any]:
        """Fields of `ProbeConfig` for a new resampler of this family: encoders and sizes. `dino`: size of DINOv2, "L", "B" or "S"."""

    @classmethod
    @abstractmethod
    def vocabulary(cls) -> Vocabulary:
        """What the base can draw for a training set of its own."""

    @classmethod
    def drawing(cls, model: ProbeTeacher, subjects: int, views: int, vocabulary: Vocabulary | None = None, seed: int = 0) -> Drawing:
        """A training set that `model`, of this family, draws: so many subjects in so many scenes each.

        Raises:
            UserError: a number is out of range, or the vocabulary has too few scenes.
        """
        from ..data.drawing import Drawing, DrawingSettings

        words, how = vocabulary or cls.vocabulary(), cls.sampling
        settings = DrawingSettings(subjects, views, seed, how.steps, how.guidance, how.sampler, max(1, cls.batch // max(1, views)))
        return Drawing(model, words, settings)

    def example(self, number: int) -> Example:
        """A subject for the demo; UserError where the base has none of its own."""
        raise UserError(f"{self.title} has no example of its own; give --image and --class-noun")

    def check_images(self, images: Tensor) -> None:
        """UserError if reference images [B, H, W, C] are too large for the base."""
        height, width = images.shape[1:3]
        if self.largest_image and max(height, width) > self.largest_image:
            raise UserError(
                f"{self.title} reads images of at most {self.largest_image} pixels, found {width}x{height}; give your Stable Diffusion 1.5 "
                "checkpoint with --model (in Python: model=...), or crop and reduce the image"
            )

    def check_output(self, path: Path, makes: str) -> None:
        """UserError, before any work, if `write` could not write what a method makes ("subject", "full" ...) to `path`."""
        if not path.suffix:
            raise UserError(f"expected an output file that ends in .safetensors, found {path.name!r}")

    def write(self, artefact: Subject | AdapterWeights | Reading, path: Path, overwrite: bool = False) -> None:
        """Write an artefact as this family's programs read it. UserError: it exists, or the place cannot be written."""
        artefact.save(path, overwrite)
