"""How weights follow their gradient: AdamW, or Muon for matrices and convolutions beside it; the rate; the moving average."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn


class Optimizer:
    """AdamW for all weights, or (`muon_lr` given) Muon for those with two or more axes and AdamW for vectors and embedding tables.

    Muon: K. Jordan et al. 2024, torch.optim.Muon, which takes 2-D parameters only; convolutions are flattened to matrices, as views that
    share the storage of the weight.
    """

    def __init__(
        self,
        modules: Sequence[nn.Module],
        lr: float,
        muon_lr: float | None = None,
        weight_decay: float = 0.01,
        betas: tuple[float, float] = (0.9, 0.99),
        clip: float = 1.0,
    ):
        tables = {id(m.weight) for root in modules for m in root.modules() if isinstance(m, nn.Embedding)}
        self.parameters = [p for root in modules for p in root.parameters() if p.requires_grad]
        self.wide = [p for p in self.parameters if p.ndim >= 2 and id(p) not in tables] if muon_lr is not None else []
        self.flat = [nn.Parameter(p.data.view(p.shape[0], -1)) for p in self.wide]
        wide = dict(zip(map(id, self.wide), self.flat, strict=True))
        self._stepped = [wide.get(id(p), p) for p in self.parameters]
        narrow = [p for p in self.parameters if id(p) not in wide]
        self.parts: dict[str, torch.optim.Optimizer] = {}
        if self.flat and muon_lr is not None:
            self.parts["muon"] = torch.optim.Muon(self.flat, lr=muon_lr, weight_decay=weight_decay, adjust_lr_fn="original")
        # Vectors (biases, gains) are not decayed.
        groups = [{"params": [p for p in narrow if p.ndim >= 2 and id(p) not in tables], "weight_decay": weight_decay}]
        groups.append({"params": [p for p in narrow if p.ndim < 2 or id(p) in tables], "weight_decay": 0.0})
        self.parts["adam"] = torch.optim.AdamW([group for group in groups if group["params"]], lr=lr, betas=betas)
        self.full = {name: part.param_groups[0]["lr"] for name, part in self.parts.items()}
        self.clip = clip

    def step(self, rate: float, scaler: torch.amp.GradScaler | None = None) -> float:
        """One update at `rate` times the full learning rates; returns the gradient's norm before clipping. Gradients are forgotten.

        A gradient that is infinite or NaN anywhere changes no weight and no moment. An fp16 `scaler` takes note of it.
        """
        for weight, flat in zip(self.wide, self.flat, strict=True):
            flat.grad = None if weight.grad is None else weight.grad.reshape(flat.shape)
        if scaler:
            for part in self.parts.values():
                scaler.unscale_(part)
        norm = nn.utils.clip_grad_norm_(self._stepped, self.clip).item()
        if math.isfinite(norm):
            for name, part in self.parts.items():
                for group in part.param_groups:
                    group["lr"] = self.full[name] * rate
                scaler.step(part) if scaler else part.step()
        if scaler:
            scaler.update()
        for weight in [*self.parameters, *self.flat]:
            weight.grad = None
        return norm

    def state_dict(self) -> dict:
        return {name: part.state_dict() for name, part in self.parts.items()}

    def load_state_dict(self, state: dict) -> None:
        """The moments of a state; rates and decays stay those that this one was made with."""
        for name, part in self.parts.items():
            own = [{key: value for key, value in group.items() if key != "params"} for group in part.param_groups]
            part.load_state_dict(state[name])
            for group, settings in zip(part.param_groups, own, strict=True):
                group.update(settings)


def rate_at(step: int, steps: int, warmup: int, decay: float) -> float:
    """The learning rate's factor at a step, in 0..1: it rises over `warmup` steps and falls to zero over the last `decay` share."""
    left = (steps - step) / max(steps * decay, 1) if decay else 1.0
    return min((step + 1) / max(warmup, 1), 1.0, left)


class Average:
    """A moving average of weights in float32, faster at the beginning, when there is little worth keeping."""

    def __init__(self, weights: Mapping[str, Tensor], decay: float):
        self.weights = {name: tensor.detach().clone() for name, tensor in weights.items()}
        self.decay = decay

    @torch.no_grad()
    def update(self, weights: Mapping[str, Tensor], step: int) -> None:
        """After step number `step` (from 0): the average moves towards `weights`."""
        decay = min(self.decay, (step + 1) / (step + 10))
        for name, tensor in weights.items():
            if tensor.is_floating_point():
                self.weights[name].lerp_(tensor.detach(), 1 - decay)
            else:
                self.weights[name].copy_(tensor)

    def load(self, weights: Mapping[str, Tensor]) -> None:
        for name, tensor in weights.items():
            self.weights[name].copy_(tensor)
