"""HyperDreamBooth's hypernetwork (Ruiz et al. 2023, arXiv 2307.06949, section 4.2): a photo to the numbers of Lightweight DreamBooth.

    f       = merge(CLIP tokens, DINO tokens)
    x       = positions + Linear(theta_{k-1})
    theta_k = theta_{k-1} + scale H_m LN(decoder(x, f)),  theta_0 = 0,  k = 1 ... s

The image is read once; the decoder, a transformer whose queries are the M matrices, runs s times ("iterative prediction"). What is
predicted is the difference to the start that `models.lidb` gives.

Axes: B images, L tokens, M matrices, a + b numbers of each.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..files.adapter_weights import NUMBERS, AdapterInfo, AdapterWeights
from ..models.adapter import Prompt, TrainableModel, check_family
from ..models.lidb import BASIS, LiDBSpace, Targets, lidb_layers
from ..models.low_rank import low_rank_on
from .learner import Features, Learner
from .merge import FeatureMerge
from .regressors.resampler import ResamplerLayer
from .settings import LearnerConfig, load_learner, save_learner

FIRST = 0.02  # spread of the heads' start relative to 1 / sqrt(inner): larger ones begin far off and do not come back
SCALE = 0.1  # of a head's output


@dataclass(frozen=True, kw_only=True)
class HypernetworkConfig(LearnerConfig):
    """Architecture and provenance of a hypernetwork, stored in its file's metadata.

    Attributes:
        matrices: M.
        subspace: a and b.
        targets: which layers, see `models.lidb`.
        inner, layers, heads: sizes of the decoder.
        iterations: s at inference; training draws from 1 to s.
        token: the text before the class noun that the predicted weights answer to.
    """

    matrices: int
    subspace: tuple[int, int]
    token: str
    targets: Targets = "unet"
    inner: int = 512
    layers: int = 2
    heads: int = 8
    iterations: int = 2
    basis: str = BASIS

    def __post_init__(self):
        sizes = {name: getattr(self, name) for name in ("matrices", "inner", "layers", "heads", "iterations")}
        if not isinstance(self.subspace, tuple) or len(self.subspace) != 2:
            raise UserError("expected two numbers for the subspace in the hypernetwork's configuration; get the file again")
        self.check("hypernetwork", {**sizes, "a": self.subspace[0], "b": self.subspace[1]}, {"token": self.token})
        if self.basis != BASIS or self.targets not in get_args(Targets) or self.layers > 64 or self.iterations > 64:
            raise UserError(f"expected the subspace {BASIS} and layers {', '.join(get_args(Targets))}, found others; update this program")

    @staticmethod
    def from_table(table: dict[str, Any]) -> HypernetworkConfig:
        """The configuration in a JSON object; TypeError if a field is unknown."""
        return HypernetworkConfig(**{**table, "subspace": tuple(table["subspace"])})


class Hypernetwork(Learner):
    """Predicts the numbers of Lightweight DreamBooth, as differences to their start."""

    kind = "hypernetwork"
    config: HypernetworkConfig

    def __init__(self, config: HypernetworkConfig):
        super().__init__()
        c, numbers = config, sum(config.subspace)
        self.config = config
        self.merge = FeatureMerge(c.clip_width, c.dino_width, c.inner)
        self.positions = nn.Embedding(c.matrices, c.inner)
        self.again = nn.Linear(numbers, c.inner)
        self.decoder = nn.ModuleList(ResamplerLayer(c.inner, c.heads) for _ in range(c.layers))
        self.out_norm = nn.LayerNorm(c.inner)
        # an embedding table, since one matrix per layer must not be orthogonalised as one
        self.heads = nn.Embedding(c.matrices, c.inner * numbers)
        nn.init.zeros_(self.again.weight)
        nn.init.zeros_(self.again.bias)
        nn.init.normal_(self.heads.weight, std=FIRST / math.sqrt(c.inner))

    def forward(self, features: Features, nouns: Tensor) -> Tensor:
        """The differences [B, M, a + b] from the features of B images; class nouns are not read."""
        read = self.merge(features.clip, features.dino)
        heads = self.heads.weight.view(self.config.matrices, self.config.inner, -1)
        theta = read.new_zeros(len(read), self.config.matrices, heads.shape[-1])
        for _ in range(self._iterations()):
            x = self.positions.weight.to(read) + self.again(theta)
            for layer in self.decoder:
                x = layer(x, read)
            theta = theta + SCALE * torch.einsum("bmi,min->bmn", self.out_norm(x), heads.to(read))
        return theta

    def _iterations(self) -> int:
        most = self.config.iterations
        return int(torch.randint(1, most + 1, ()).item()) if self.training else most

    def blocks(self) -> Sequence[nn.Module]:
        return list(self.decoder)

    def prompts(self, predicted: Tensor, templates: Sequence[tuple[str, str]], nouns: Sequence[str], model: Any) -> list[Prompt]:
        return [[f"{before} {self.config.token} {noun} {after}".strip()] for (before, after), noun in zip(templates, nouns, strict=True)]

    def applied(self, model: TrainableModel, predicted: Tensor) -> AbstractContextManager[None]:
        layers = lidb_layers(model, self.config.targets)
        space = self.space(model)
        return low_rank_on(layers, space.residuals(space.start().to(predicted) + predicted))

    def penalty(self, predicted: Tensor) -> Tensor:
        """The mean square of the differences."""
        return predicted.float().square().mean()

    def space(self, model: TrainableModel) -> LiDBSpace:
        """The subspace of a model's layers. UserError if there are others than it was trained on."""
        check_family(model, "the hypernetwork", self.config.width, self.config.family, self.config.base_model)
        space = LiDBSpace.of(lidb_layers(model, self.config.targets), *self.config.subspace)
        if space.shape[0] != self.config.matrices:
            raise UserError(
                f"the hypernetwork predicts {self.config.matrices} matrices, {model.name} has {space.shape[0]}; use its own base"
            )
        return space

    @torch.no_grad()
    def predict(self, model: TrainableModel, features: Features, noun: str, licence: str = "") -> AdapterWeights:
        """One subject's Lightweight DreamBooth, the mean over its images.

        Raises:
            UserError: it was trained for another model.
        """
        space = self.space(model)
        difference = self(features, features.clip).mean(0).float().cpu()
        info = AdapterInfo(
            "lidb", noun, self.config.token, family=model.family, width=model.embedding_width, base_model=model.name,
            base_fingerprint=model.fingerprint, images=len(features.clip), licence=licence or self.config.licence,
            subspace=self.config.subspace, targets=self.config.targets, basis=self.config.basis,
        )  # fmt: skip
        return AdapterWeights({NUMBERS: space.start() + difference}, info)

    def save(self, path: Path, half: bool = True) -> None:
        save_learner(self, path, half)

    @staticmethod
    def load(path: Path) -> Hypernetwork:
        """Reads a hypernetwork's file; see `settings.load_learner`."""
        return load_learner(path, Hypernetwork, HypernetworkConfig.from_table)

    def about(self) -> str:
        """A short description for users."""
        c, parameters = self.config, sum(p.numel() for p in self.parameters()) / 1e6
        first = f"{c.matrices} matrices of {sum(c.subspace)} numbers in {c.iterations} iterations, {parameters:.3g} M parameters"
        return "\n".join([first, *c.about_base()])
