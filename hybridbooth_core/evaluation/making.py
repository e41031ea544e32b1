"""How the evaluated subjects come about: by a method of the family, from files that were made elsewhere, or not at all (the baseline)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, BinaryIO

from ..encoders.features import FeatureEncoder, Reference, extract_features
from ..errors import UserError
from ..methods.prior_images import Prior
from ..methods.registry import METHODS, load_artefact, run_method
from ..models.adapter import Prompt, TrainableModel
from ..probe.probe import Probe
from .photos import reference_photos, write_text
from .protocol import PhotoSubject

CLASS_NOUN = "class_noun"  # the baseline: no subject, only its class
OnStep = Callable[[int, int, float], None]


@dataclass(frozen=True)
class MakingConfig:
    """What decides what a subject becomes; all of it is in the result.

    Attributes:
        method: a name of the family, or "class_noun"; "files" with `artefacts`.
        steps, rate: None is the method's own (published) default.
        inputs: how many of a subject's photos the method is given, from the first on; None gives all.
        artefacts: a folder of <subject>.safetensors, instead of making them.
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
        if self.method not in known:
            raise UserError(f"expected a method out of {', '.join(known)}, found {self.method!r}")
        if self.inputs is not None and self.inputs < 1:
            raise UserError(f"expected at least 1 photo as input, found {self.inputs}")

    @property
    def trained_steps(self) -> int:
        """How many steps the method takes."""
        config = METHODS[self.method].config if self.method in METHODS else None
        if self.steps is not None or config is None:
            return self.steps or 0
        return next(int(f.default) for f in fields(config) if f.name == "steps")  # type: ignore[arg-type]


@dataclass(frozen=True, eq=False)
class ProbeKit:
    """A probe and the two encoders that it reads images with."""

    probe: Probe
    clip: FeatureEncoder
    dino: FeatureEncoder

    @staticmethod
    def load(path: Path, folders: Sequence[Path] = ()) -> ProbeKit:
        """A probe's file, and its encoders from files in `folders`; UserError: the file is no probe, or its encoders are not there."""
        from ..encoders import load_encoders

        probe = Probe.load(path)
        return ProbeKit(probe, *load_encoders(probe.config, folders))


class Maker:
    """Makes subjects of photos with one model, and keeps each as a file, so that none is made twice."""

    def __init__(self, model: TrainableModel, config: MakingConfig, prior: Prior, kit: ProbeKit | None = None):
        if config.method in METHODS and METHODS[config.method].probe and kit is None:
            raise UserError(f"the method {config.method} starts from a probe's guess; give the probe's file with --probe")
        self.model, self.config, self.prior, self.kit = model, config, prior, kit

    def applied(self, subject: PhotoSubject, folder: Path, on_step: OnStep | None = None) -> AbstractContextManager[Prompt]:
        """While open, the subject is part of the model; yields what stands for it in a prompt.

        Args:
            folder: where the subject's file is, or is put.
        """
        if self.config.method == CLASS_NOUN:
            return nullcontext([subject.noun])
        path = self._given(subject, folder) if self.config.artefacts else folder / f"{subject.name}.safetensors"
        if not path.exists():
            ref = reference_photos(subject.photos[: self.config.inputs], self.model.image_size)
            self._made(ref, subject.noun, on_step).save(path)
        # read back even if it was made just now: a continued run reads it, and both must draw the same
        return load_artefact(path, self.model.embedding_width).applied(self.model)

    def _made(self, ref: Reference, noun: str, on_step: OnStep | None):
        kit, config = self.kit, self.config
        features = extract_features(self.model, kit.clip, kit.dino, ref) if kit else None
        trained = run_method(
            config.method, self.model, ref, noun, steps=config.trained_steps, rate=config.rate, seed=config.seed,
            probe=kit.probe if kit else None, features=features, prior=self.prior, on_step=on_step, **config.options,
        )  # fmt: skip
        return trained.artefact

    def _given(self, subject: PhotoSubject, folder: Path) -> Path:
        """The subject's file of `artefacts`; UserError if it is not there, or not the one that images were drawn with before."""
        path = Path(self.config.artefacts or "") / f"{subject.name}.safetensors"
        try:
            with path.open("rb") as file:
                found = _sha256(file)
        except OSError as error:
            raise UserError(f"the subject's file {path} cannot be read ({error.strerror or error}); put it there") from error
        note = folder / "artefact.sha256"
        if not note.exists():
            write_text(found + "\n", note)
        elif note.read_text(encoding="utf-8").strip() != found:
            raise UserError(f"{path} is not the file that the images in {folder} were drawn with; choose another --out")
        return path


def _sha256(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()
