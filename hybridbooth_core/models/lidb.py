"""Lightweight DreamBooth (Ruiz et al. 2023, HyperDreamBooth, arXiv 2307.06949, section 4.1): a rank-1 LoRA in a fixed random subspace.

W' x = W x + s A_aux A B B_aux x. The outer matrices are fixed: A_aux [out, a] has orthonormal columns and B_aux [b, in] orthonormal rows.
Of each layer only A [a] and B [b] are a subject's own: 150 numbers at a = 100, b = 50, and 30,000 for the 200 layers of Stable Diffusion
1.5.

The fixed matrices are constants of the format `BASIS`: functions of a layer's name and size alone, from a counter-based generator in
float64.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from .adapter import TrainableModel
from .low_rank import LowRank, attention_layers, text_layers

BASIS = "hybridbooth.lidb/1"
OUT, IN = 100, 50
"""a and b of Stable Diffusion 1.5. Which side gets which the paper leaves open; here a is the output's."""
Targets = Literal["unet", "unet+text", "all"]
"""The layers: of the denoiser's attentions, and of the text encoder's attentions, and of its MLPs too."""


def lidb_layers(model: TrainableModel, targets: Targets = "all") -> dict[str, nn.Linear]:
    """The layers that a subject changes by kohya's names, in the order of the names, which is that of a file's rows."""
    found = attention_layers(model.denoiser)
    if targets != "unet":
        found |= text_layers(model.text_encoder, mlp=targets == "all")
    return dict(sorted(found.items()))


@dataclass(frozen=True, eq=False)
class LiDBSpace:
    """The subspace of some layers: `layers` are names and sizes (out, in), in the order of the rows."""

    layers: Mapping[str, tuple[int, int]]
    a: int = OUT
    b: int = IN

    @staticmethod
    def of(layers: Mapping[str, nn.Linear], a: int = OUT, b: int = IN) -> LiDBSpace:
        """The subspace of a model's layers. ValueError if a layer is smaller than a or b."""
        sizes = {name: (layer.out_features, layer.in_features) for name, layer in layers.items()}
        if any(out < a or into < b for out, into in sizes.values()):
            raise ValueError(f"expected a and b of at most a layer's output and input, found {a} and {b}")
        return LiDBSpace(sizes, a, b)

    @property
    def shape(self) -> tuple[int, int]:
        """Of a subject's numbers: [M, a + b]."""
        return len(self.layers), self.a + self.b

    def start(self) -> Tensor:
        """The numbers [M, a + b] of no change: A zero, B normal so that B B_aux has entries of unit spread."""
        rows = [np.concatenate([np.zeros(self.a), start_of(name, self.b, into)]) for name, (_, into) in self.layers.items()]
        return torch.from_numpy(np.stack(rows)).float()

    def residuals(self, numbers: Tensor) -> dict[str, LowRank]:
        """The rank-1 LoRA of a subject's numbers [M, a + b], or of K subjects' [K, M, a + b].

        Raises:
            ValueError: the numbers have another shape.
        """
        if numbers.shape[-2:] != self.shape or numbers.ndim not in (2, 3):
            raise ValueError(f"expected numbers [{self.shape[0]}, {self.shape[1]}], found {list(numbers.shape)}")
        found = {}
        for row, (name, (out, into)) in enumerate(self.layers.items()):
            own = numbers[..., row, :]
            outer, inner = (outer_matrices(name, out, into, self.a, self.b)[side].to(numbers) for side in (0, 1))
            found[name] = LowRank((own[..., self.a :] @ inner)[..., None, :], (own[..., : self.a] @ outer.T)[..., None], 1.0)
        return found


@lru_cache(maxsize=2048)
def outer_matrices(name: str, out: int, into: int, a: int, b: int) -> tuple[Tensor, Tensor]:
    """A_aux [out, a] and B_aux [b, in] of a layer, float32 on the CPU. Shared by all callers: do not change them."""
    return _orthonormal(f"{name}.up", out, a).contiguous(), _orthonormal(f"{name}.down", into, b).T.contiguous()


def start_of(name: str, b: int, into: int) -> np.ndarray:
    """B's start [b] of a layer, float64."""
    return normals(f"{name}.start", b) * np.sqrt(into / b)


def _orthonormal(key: str, rows: int, columns: int) -> Tensor:
    """A matrix [rows, columns] with orthonormal columns: the Q of a normal matrix, with the signs that make R's diagonal positive."""
    q, r = np.linalg.qr(normals(key, rows * columns).reshape(rows, columns))
    return torch.from_numpy((q * np.sign(np.diag(r))).astype(np.float32))


def normals(key: str, count: int) -> np.ndarray:
    """Standard normal numbers [count], float64, by splitmix64 (Steele et al. 2014) and Box and Muller, seeded by the key's SHA-256."""
    seed = np.uint64(int.from_bytes(hashlib.sha256(f"{BASIS}/{key}".encode()).digest()[:8], "big"))
    pairs = (count + 1) // 2
    with np.errstate(over="ignore"):
        z = seed + np.arange(1, 2 * pairs + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    uniform = ((z ^ (z >> np.uint64(31))) >> np.uint64(11)).astype(np.float64) / 2.0**53
    radius, angle = np.sqrt(-2 * np.log1p(-uniform[:pairs])), 2 * np.pi * uniform[pairs:]
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])[:count]
