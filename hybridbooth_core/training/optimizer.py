"""AdamW, optionally with Muon for matrices and convolutions; the learning-rate schedule; the moving average of weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn


class Optimizer:
    """AdamW for all weights or, if `muon_lr` is given, Muon for weights with two or more axes and AdamW for vectors and embedding tables.

    Muon: K. Jordan et al. 2024, torch.optim.Muon, which takes 2-D parameters only: convolutions are passed as flattened views.
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
        # no weight decay for vectors (biases, gains)
        groups = [{"params": [p for p in narrow if p.ndim >= 2 and id(p) not in tables], "weight_decay": weight_decay}]
        groups.append({"params": [p for p in narrow if p.ndim < 2 or id(p) in tables], "weight_decay": 0.0})
        self.parts["adam"] = torch.optim.AdamW([group for group in groups if group["params"]], lr=lr, betas=betas)
        self.peak_lr = {name: part.param_groups[0]["lr"] for name, part in self.parts.items()}
        self.clip = clip

    def step(self, rate: float, scaler: torch.amp.GradScaler | None = None) -> float:
        """One update with `rate` times the peak learning rates. Returns the gradient norm before clipping; resets the gradients.

        If any gradient is infinite or NaN, no weight and no moment changes (a float16 `scaler` lowers its scale).
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
                    group["lr"] = self.peak_lr[name] * rate
                scaler.step(part) if scaler else part.step()
        if scaler:
            scaler.update()
        for weight in [*self.parameters, *self.flat]:
            weight.grad = None
        return norm

    def state_dict(self) -> dict:
        return {name: part.state_dict() for name, part in self.parts.items()}

    def load_state_dict(self, state: dict) -> None:
        """Loads the moments; keeps this optimizer's learning rates and weight decay."""
        for name, part in self.parts.items():
            own = [{key: value for key, value in group.items() if key != "params"} for group in part.param_groups]
            part.load_state_dict(state[name])
            for group, settings in zip(part.param_groups, own, strict=True):
                group.update(settings)


def rate_at(step: int, steps: int, warmup: int, decay: float) -> float:
    """The learning-rate factor at a step, in 0..1: linear warm-up, then linear decay to zero over the last `decay` fraction of steps."""
    left = (steps - step) / max(steps * decay, 1) if decay else 1.0
    return min((step + 1) / max(warmup, 1), 1.0, left)


class Average:
    """An exponential moving average of weights, with a smaller decay at the beginning."""

    def __init__(self, weights: Mapping[str, Tensor], decay: float):
        self.weights = {name: tensor.detach().clone() for name, tensor in weights.items()}
        self.decay = decay

    @torch.no_grad()
    def update(self, weights: Mapping[str, Tensor], step: int) -> None:
        """Moves the average towards `weights` after step number `step` (from 0)."""
        decay = min(self.decay, (step + 1) / (step + 10))
        for name, tensor in weights.items():
            if tensor.is_floating_point():
                self.weights[name].lerp_(tensor.detach(), 1 - decay)
            else:
                self.weights[name].copy_(tensor)

    def load(self, weights: Mapping[str, Tensor]) -> None:
        for name, tensor in weights.items():
            self.weights[name].copy_(tensor)
