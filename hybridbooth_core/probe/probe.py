"""The probe: a feature merge and a regressor, stored in one file.

It predicts a subject's initial token embeddings from features of its reference images.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..files.safetensors import read_header, read_tensors, write_tensors
from ..models.adapter import Prompt
from .learner import Features, Learner
from .merge import FeatureMerge
from .regressors import Regressor, build_regressor

FORMAT, FORMAT_VERSION = "hybridbooth.probe", 1
MAX_BYTES = 4 << 30
_RENAMED = {"words": "num_tokens", "word_norm": "embedding_norm"}  # field names in files of 0.1
_DROPPED = ("words_step", "stepper", "learned_optimizer", "learned_step")  # fields of older files that mean nothing any more
_DROPPED_PARTS = ("stepper.", "learned_optimizer.")  # and their tensors: a network that took the steps of a refinement


@dataclass(frozen=True)
class ProbeConfig:
    """Architecture, defaults and provenance of a probe, stored in its file's metadata."""

    width: int  # d of the token embeddings
    clip: str  # id of the encoder: its repository on the hub, or the miniature's
    clip_width: int
    dino: str
    dino_width: int
    regressor: str = "promptnet"
    sizes: dict[str, Any] = field(default_factory=dict)  # keyword arguments of the regressor
    num_tokens: int = 5
    embedding_norm: float = 1.0  # mean norm of the vocabulary's embeddings; scales the outputs
    residual_step: float = 5e-5  # default step size for refining this probe's Q, K and V
    gradient_norms: Sequence[float] = ()  # deciles over subjects like those of the training, see refine.unlikeness; () if not measured
    weak: bool = False  # many steps help even subjects like those of its training, see training.calibration
    family: str = ""  # of base models, by its ModelSpec name; "" in files of 0.1
    base_model: str = ""
    base_fingerprint: str = ""
    trained_on: str = ""
    licence: str = ""

    def __post_init__(self):
        texts = [self.clip, self.dino, self.regressor, self.family, self.base_model, self.base_fingerprint, self.trained_on, self.licence]
        if not isinstance(self.sizes, dict) or not all(isinstance(text, str) for text in texts):
            raise UserError("the probe's configuration has fields of a wrong type; the probe file is damaged, get it again")
        sizes = [v for value in self.sizes.values() for v in (value if isinstance(value, list | tuple) else [value])]
        numbers = [self.width, self.clip_width, self.dino_width, self.num_tokens, *sizes]
        whole = all(isinstance(v, int) and not isinstance(v, bool) and 0 <= v <= 65536 for v in numbers)
        if not whole or not 1 <= self.num_tokens <= 75 or min(self.width, self.clip_width, self.dino_width) < 1:
            raise UserError("the sizes in the probe's configuration are not valid integers; the probe file is damaged, get it again")
        for scale in (self.embedding_norm, self.residual_step):
            if not (isinstance(scale, int | float) and 0 < scale < 1e4):
                raise UserError(f"expected positive scales in the probe's configuration, found {scale!r}; the probe file is damaged")
        norms = self.gradient_norms
        if not isinstance(self.weak, bool):
            raise UserError(f"expected true or false for weak in the probe's configuration, found {self.weak!r}; get the probe file again")
        numbers = isinstance(norms, list | tuple) and all(isinstance(norm, int | float) and 0 <= norm < 1e9 for norm in norms)
        if not numbers or len(norms) not in (0, 11):
            raise UserError("the gradient norms in the probe's configuration are not eleven numbers; get the probe file again")

    @staticmethod
    def from_table(table: dict[str, Any]) -> ProbeConfig:
        """The configuration in a JSON object that this version or an older one wrote; TypeError if a field is unknown."""
        values = {_RENAMED.get(name, name): value for name, value in table.items() if name not in _DROPPED}
        norms = values.get("gradient_norms", ())
        return ProbeConfig(**{**values, "gradient_norms": tuple(norms) if isinstance(norms, list) else norms})


class Probe(Learner):
    """Predicts token embeddings from features: e_i = s x output_i, and for the last token e_n = E[class] + s x output_n.

    s scales outputs of unit standard deviation to the mean norm of the vocabulary. Since the last token starts from the class noun's
    embedding E[class], a prompt such as "a photo of <subject> on snow" needs no extra noun.
    """

    kind = "probe"

    def __init__(self, config: ProbeConfig):
        super().__init__()
        self.config = config
        self.merge = FeatureMerge(config.clip_width, config.dino_width, config.width)
        self.regressor = build_regressor(config.regressor, config.num_tokens, config.width, config.sizes)

    def forward(self, features: Features, nouns: Tensor) -> Tensor:
        """Token embeddings [B, n, d] from the features of B images and their class nouns' embeddings [B, d] (or [d] for all)."""
        output = self.regressor(self.merge(features.clip, features.dino), features.latents)
        embeddings = output * self._unit
        last = embeddings[:, -1:] + nouns.to(embeddings).expand(len(embeddings), -1)[:, None]
        return torch.cat([embeddings[:, :-1], last], 1)

    @property
    def reads_latents(self) -> bool:
        return self.regressor.reads_latents  # type: ignore[return-value]

    def blocks(self) -> Sequence[nn.Module]:
        return cast(Regressor, self.regressor).blocks()

    def prompts(self, predicted: Tensor, templates: Sequence[tuple[str, str]], nouns: Sequence[str], model: Any) -> list[Prompt]:
        return [[before, row, after] for row, (before, after) in zip(predicted, templates, strict=True)]

    def penalty(self, predicted: Tensor) -> Tensor:
        """The mean squared norm of the embeddings, relative to the vocabulary's mean norm."""
        return ((predicted.float().norm(dim=-1) / self.config.embedding_norm) ** 2).mean()

    @property
    def _unit(self) -> float:
        """The root mean square of an average embedding's entries."""
        return self.config.embedding_norm / math.sqrt(self.config.width)

    def about(self) -> str:
        """A short description for users: base model, training data, licence, encoders and size."""
        c = self.config
        parameters = sum(p.numel() for p in self.parameters()) / 1e6
        return "\n".join(
            [
                f"{c.num_tokens} token embeddings of width {c.width} for {c.base_model or 'an unnamed base model'}",
                f"trained on: {c.trained_on or 'not stated'}",
                f"licence: {c.licence or 'not stated'}",
                f"image encoders: {c.clip} and {c.dino}",
                f"regressor: {c.regressor}, {parameters:.3g} M parameters in total",
            ]
        )

    def save(self, path: Path, half: bool = True) -> None:
        """Writes the probe's file, in float16 or (`half=False`) float32."""
        tensors = {name: tensor.half() if half else tensor.float() for name, tensor in self.state_dict().items()}
        metadata = {"format": FORMAT, "format_version": str(FORMAT_VERSION), "config": json.dumps(asdict(self.config))}
        write_tensors(path, tensors, metadata)

    @staticmethod
    def load(path: Path) -> Probe:
        """Reads a probe's file; the probe is in eval mode and frozen.

        Raises:
            UserError: the file is not a probe, is damaged, has a newer format, or its tensors do not match its configuration.
        """
        header, metadata = read_header(path, "probe", MAX_BYTES)
        if metadata.get("format") != FORMAT:
            raise UserError(f"{path.name} is not a HybridBooth probe; choose a probe file, or load a subject with Load Subject")
        if metadata.get("format_version") != str(FORMAT_VERSION):
            found = metadata.get("format_version", "")[:20]
            raise UserError(f"{path.name} has probe format {found!r}, this pack reads {FORMAT_VERSION}; update the pack")
        try:
            table: dict[str, Any] = json.loads(metadata["config"])
            config = ProbeConfig.from_table(table)
        except UserError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
            raise UserError(f"the configuration in {path.name} is damaged ({error}); get the probe again") from error
        with torch.device("meta"):
            probe = Probe(config)
        shapes = {name: list(tensor.shape) for name, tensor in probe.state_dict().items()}
        header = {name: entry for name, entry in header.items() if not name.startswith(_DROPPED_PARTS)}
        probe.load_state_dict(read_tensors(path, "probe", header, shapes), assign=True)
        return probe.eval().requires_grad_(False)
