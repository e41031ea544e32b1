"""InstantBooth (Shi et al. 2023, arXiv 2304.03411): a concept token after the text encoder, and adapter layers that read patch features.

    c[column] <- alpha f_c,     f_c = the mean of E_c(x_i) over the images                          (section 3.2)
    y <- y + beta tanh(gamma) S([y, W f_p])_y,     f_p = FC(patch tokens of all images)             (section 3.3)

S is a self-attention of a block's latent cells y and the patch features, of which only the cells go on; it stands between the
block's self-attention and its cross-attention. gamma starts at 0, so an untrained adapter changes nothing. Only rows whose context
holds the concept are changed, so the empty prompt of classifier-free guidance stays the base model's.

Axes: B subjects or rows, L tokens of all images of one, N latent cells, d width of the text encoder, C channels of a block.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import UserError
from ..models.adapter import Prompt, TrainableModel, Written, check_family, class_embedding
from .learner import Features, Learner
from .merge import FeatureMerge
from .settings import LearnerConfig, load_learner, save_learner

GATE = 10.0  # gamma is this times its parameter, so that the gates open within hundreds of steps


@dataclass(frozen=True, kw_only=True)
class InstantConfig(LearnerConfig):
    """Architecture and provenance of an InstantBooth adapter, stored in its file's metadata.

    Attributes:
        blocks: the denoiser's transformer blocks by diffusers' names, with their channels. Names, since implementations order them
            differently.
        heads: of every adapter layer.
        alpha, beta: the defaults at inference.
    """

    blocks: Mapping[str, int]
    heads: int = 8
    alpha: float = 1.0
    beta: float = 1.0

    def __post_init__(self):
        if not isinstance(self.blocks, dict) or not 1 <= len(self.blocks) <= 256 or not all(isinstance(name, str) for name in self.blocks):
            raise UserError("expected the denoiser's blocks in the adapter's configuration, found others; get the file again")
        self.check("adapter", {"heads": self.heads, **{f"channels of {name[:60]}": size for name, size in self.blocks.items()}})
        for value in (self.alpha, self.beta):
            if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= 2:
                raise UserError(f"expected alpha and beta from 0 to 2 in the adapter's configuration, found {str(value)[:40]}")

    @staticmethod
    def from_table(table: dict[str, Any]) -> InstantConfig:
        """The configuration in a JSON object; TypeError if a field is unknown."""
        return InstantConfig(**table)


class AdapterLayer(nn.Module):
    """One adapter layer: what it adds to the cells y [B, N, C], given patch features [B, L, d]."""

    def __init__(self, channels: int, width: int, heads: int):
        super().__init__()
        if channels % heads:
            raise ValueError(f"expected channels divisible by {heads} heads, found {channels}")
        self.heads = heads
        self.project = nn.Linear(width, channels)
        self.norm = nn.LayerNorm(channels)
        self.to_q, self.to_k, self.to_v = (nn.Linear(channels, channels, bias=False) for _ in range(3))
        self.to_out = nn.Linear(channels, channels)
        self.gate = nn.Parameter(torch.zeros(()))

    def forward(self, y: Tensor, patches: Tensor, beta: float = 1.0) -> Tensor:
        """beta tanh(gamma) S([y, W f_p])_y, [B, N, C]. The queries are the cells alone, which gives the same at half the cost."""
        cells, both = self.norm(y), self.norm(torch.cat([y, self.project(patches).to(y.dtype)], 1))
        q, k, v = (x.unflatten(-1, (self.heads, -1)).transpose(1, 2) for x in (self.to_q(cells), self.to_k(both), self.to_v(both)))
        found = self.to_out(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))
        return beta * torch.tanh(GATE * self.gate) * found


class InstantBooth(Learner):
    """Predicts [B, 1 + L, d]: the concept token f_c, then the patch features f_p; and holds the adapter layers that read them."""

    kind = "instantbooth"
    config: InstantConfig

    def __init__(self, config: InstantConfig):
        super().__init__()
        c = config
        self.config = config
        self.concept = nn.Sequential(nn.LayerNorm(c.clip_width + c.dino_width), nn.Linear(c.clip_width + c.dino_width, c.width))
        self.patches = FeatureMerge(c.clip_width, c.dino_width, c.width)
        self.adapters = nn.ModuleList(AdapterLayer(channels, c.width, c.heads) for channels in c.blocks.values())

    def forward(self, features: Features, nouns: Tensor) -> Tensor:
        """The concept and patch features [B, 1 + L, d] of B images; class nouns are not read."""
        first = torch.cat([features.clip[:, 0], features.dino[:, 0]], -1)  # the class tokens
        return torch.cat([self.concept(first)[:, None], self.patches(features.clip, features.dino)], 1)

    def blocks(self) -> Sequence[nn.Module]:
        return ()

    def prompts(self, predicted: Tensor, templates: Sequence[tuple[str, str]], nouns: Sequence[str], model: Any) -> list[Prompt]:
        rows = zip(predicted, templates, nouns, strict=True)
        return [[before, *pieces(model, row[:1], noun), *filter(None, [after])] for row, (before, after), noun in rows]

    @contextmanager
    def applied(self, model: TrainableModel, predicted: Tensor, alpha: float = 1.0, beta: float = 1.0) -> Iterator[None]:
        """While open, the adapter layers act in the rows whose context holds one of the concepts, times `alpha`, of B subjects.

        In training every row is of a subject, row i of subject i.
        """
        check_family(model, "the adapter", self.config.width, self.config.family, self.config.base_model)
        concepts, patches = alpha * predicted[:, 0].detach(), predicted[:, 1:]
        blocks = dict(model.denoiser.named_modules())
        if missing := [name for name in self.config.blocks if name not in blocks]:
            raise UserError(f"the adapter has a layer for {missing[0]}, which {model.name} lacks; use the base that it was trained for")
        rows: list[Tensor | None] = []

        def look(module: nn.Module, args: Any) -> None:
            rows[:] = [None if self.training else owners(args[2], concepts)]

        with ExitStack() as stack:
            stack.callback(model.denoiser.register_forward_pre_hook(look).remove)
            for name, adapter in zip(self.config.blocks, self.adapters, strict=True):
                for hook in _between(blocks[name], adapter, patches, rows, beta):
                    stack.callback(hook.remove)
            yield

    def penalty(self, predicted: Tensor) -> Tensor:
        """The mean square of the concept's entries, beyond the spread of about 1 that rows of a context have."""
        return (predicted[:, 0].float().square().mean() - 1).clamp(min=0)

    def save(self, path: Path, half: bool = True) -> None:
        save_learner(self, path, half)

    @staticmethod
    def load(path: Path) -> InstantBooth:
        """Reads an adapter's file; see `settings.load_learner`."""
        return load_learner(path, InstantBooth, InstantConfig.from_table)

    def about(self) -> str:
        """A short description for users."""
        parameters = sum(p.numel() for p in self.parameters()) / 1e6
        first = f"a concept token and {len(self.config.blocks)} adapter layers, {parameters:.3g} M parameters"
        return "\n".join([first, *self.config.about_base()])


def pieces(model: Any, concept: Tensor, noun: str) -> Prompt:
    """What stands for a subject in a prompt: the concept [1, d] as a written piece, then the class noun.

    While the text is encoded, the class noun's embedding is in the concept's place, for the tokens behind to read.
    """
    return [Written(class_embedding(model, noun)[None], concept), noun]


def owners(context: Tensor, concepts: Tensor) -> Tensor:
    """Which of K concepts [K, d] stands in each row of a context [R, T, d], int64 [R]; -1 where none does."""
    with torch.no_grad():
        same = (context[:, :, None] == concepts.to(context)).all(-1).any(1)
        return torch.where(same.any(1), same.int().argmax(1), -1)


def _between(block: nn.Module, adapter: nn.Module, patches: Tensor, rows: list[Tensor | None], beta: float) -> list[Any]:
    """Hooks between a transformer block's self- and cross-attention. The block adds the self-attention's output to its input."""
    kept: list[Tensor] = []

    def keep(module: nn.Module, args: Any) -> None:
        kept[:] = [args[0]]

    def add(module: nn.Module, args: Any, output: Tensor) -> Tensor:
        (whose,) = rows
        if whose is None:
            return output + adapter((kept[0] + output).to(patches), patches, beta).to(output)
        chosen = (whose >= 0).nonzero()[:, 0]
        if not len(chosen):
            return output
        y = (kept[0] + output)[chosen]
        return output.index_add(0, chosen, adapter(y.to(patches), patches[whose[chosen]], beta).to(output))

    return [block.norm1.register_forward_pre_hook(keep), block.attn1.register_forward_hook(add)]  # type: ignore[union-attr]


def block_sizes(denoiser: nn.Module) -> dict[str, int]:
    """The transformer blocks of a denoiser with diffusers' names, and their channels."""
    blocks = {name: block for name, block in denoiser.named_modules() if all(hasattr(block, part) for part in ("attn1", "attn2", "norm1"))}
    return {name: int(block.norm1.weight.shape[0]) for name, block in blocks.items()}  # type: ignore[union-attr,index]
