"""Subjects to evaluate: trained by a method, loaded from files, or the class noun alone (the baseline)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from ..encoders.clip_space import ClipSpace
from ..encoders.features import FeatureEncoder, Reference, extract_features
from ..errors import UserError
from ..methods.prior_images import Prior
from ..methods.registry import ALIASES, METHODS, find_method, load_artefact, run_method
from ..models.adapter import Prompt, TrainableModel
from ..models.progress import OnStep
from ..probe.hypernetwork import Hypernetwork
from ..probe.instant import InstantBooth
from ..probe.probe import Probe
from ..probe.reading import Reading
from .photos import reference_photos, write_text
from .protocol import PhotoSubject

CLASS_NOUN = "class_noun"  # the baseline: prompts with the class noun, no subject


@dataclass(frozen=True)
class MakingConfig:
    """Options of the subjects, stored in the result.

    Attributes:
        method: a registered method, or "class_noun"; "files" with `artefacts`.
        steps, rate: None uses the method's published default.
        inputs: number of photos that the method gets, starting with the first; None for all.
        artefacts: a folder of <subject>.safetensors to load instead of training.
    """

    method: str = CLASS_NOUN
    steps: int | None = None
    rate: float | None = None
    seed: int = 0
    inputs: int | None = 1
    options: dict[str, Any] = field(default_factory=dict)
    artefacts: Path | None = None

    def __post_init__(self):
        known = ["files"] if self.artefacts else [CLASS_NOUN, *METHODS]
        if self.method not in [*known, *ALIASES]:
            raise UserError(f"expected one of the methods {', '.join(known)}, found {self.method!r}")
        if self.inputs is not None and self.inputs < 1:
            raise UserError(f"expected at least 1 input photo, found {self.inputs}")

    @property
    def trained_steps(self) -> int | None:
        """The number of training steps; None where each image decides it."""
        if self.steps is not None or self.method in (CLASS_NOUN, "files"):
            return self.steps or 0
        return find_method(self.method).configuration().steps


NETWORKS = {"probe": Probe, "hypernetwork": Hypernetwork, "adapter": InstantBooth}


@dataclass(frozen=True, eq=False)
class NetworkKit:
    """A trained probe, hypernetwork or InstantBooth adapter, and its two image encoders. `need` is what methods call it."""

    need: str
    network: Probe | Hypernetwork | InstantBooth
    clip: FeatureEncoder
    dino: FeatureEncoder

    @staticmethod
    def load(need: str, path: Path, folders: Sequence[Path] = ()) -> NetworkKit:
        """Loads a network, and its encoders from `folders`; UserError if the file is of another kind or an encoder is missing."""
        from ..encoders import load_encoders

        network = NETWORKS[need].load(path)
        return NetworkKit(need, network, *load_encoders(network.config, folders))


class Maker:
    """Trains subjects on photos with one model and saves each to a file, which later runs reuse."""

    def __init__(
        self,
        model: TrainableModel,
        config: MakingConfig,
        prior: Prior,
        kit: NetworkKit | None = None,
        clip_space: ClipSpace | None = None,
    ):
        needs = () if config.method in (CLASS_NOUN, "files") else find_method(config.method).needs
        for need in NETWORKS:
            if need in needs and (kit is None or kit.need != need):
                raise UserError(f"the method {config.method} reads the photos by a trained {need}; give its file with --{need}")
        if "clip_space" in needs and clip_space is None:
            raise UserError(f"the method {config.method} needs CLIP ViT-L/14; give the folder that holds it with --encoders")
        self.model, self.config, self.prior, self.kit, self.clip_space = model, config, prior, kit, clip_space

    def applied(self, subject: PhotoSubject, folder: Path, on_step: OnStep | None = None) -> AbstractContextManager[Prompt]:
        """While open, the subject is applied to the model; yields its pieces of a prompt.

        Args:
            folder: contains the subject's file, or receives it.
        """
        if self.config.method == CLASS_NOUN:
            return nullcontext([subject.noun])
        path = self._artefact(subject, folder) if self.config.artefacts else folder / f"{subject.name}.safetensors"
        if not path.exists():
            ref = reference_photos(subject.photos[: self.config.inputs], self.model.image_size)
            self._train(ref, subject.noun, on_step).save(path)
        # load it even if it was just saved, so that a resumed run gives the same images
        artefact = load_artefact(path, self.model.embedding_width)
        if isinstance(artefact, Reading) and self.kit is not None and isinstance(self.kit.network, InstantBooth):
            artefact = artefact.with_adapter(self.kit.network)
        return artefact.applied(self.model)

    def _train(self, ref: Reference, noun: str, on_step: OnStep | None):
        kit, config = self.kit, self.config
        features = extract_features(self.model, kit.clip, kit.dino, ref) if kit else None
        trained = run_method(
            config.method, self.model, ref, noun, steps=config.trained_steps, rate=config.rate, seed=config.seed,
            features=features, clip_space=self.clip_space, prior=self.prior, on_step=on_step,
            **({kit.need: kit.network} if kit else {}), **config.options,
        )  # fmt: skip
        return trained.artefact

    def _artefact(self, subject: PhotoSubject, folder: Path) -> Path:
        """The subject's file in `artefacts`; UserError if it is missing, or differs from the one that existing images were made with."""
        path = Path(self.config.artefacts or "") / f"{subject.name}.safetensors"
        try:
            with path.open("rb") as file:
                found = _sha256(file)
        except OSError as error:
            raise UserError(f"the subject's file {path} cannot be read ({error.strerror or error}); check --artefacts") from error
        note = folder / "artefact.sha256"
        if not note.exists():
            write_text(found + "\n", note)
        elif note.read_text(encoding="utf-8").strip() != found:
            raise UserError(f"{path} is not the file that the images in {folder} were generated with; choose another --out")
        return path


def _sha256(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()
