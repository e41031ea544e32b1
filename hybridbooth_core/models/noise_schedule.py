"""The noise schedule of a latent diffusion model, and conversions between epsilon, v and x_0.

Notation: x_t = alpha_t x_0 + sigma_t eps with alpha_t^2 = alphas_cumprod[t] = 1 - sigma_t^2 (Ho et al. 2020, eq. 4), and
v_t = alpha_t eps - sigma_t x_0 (Salimans & Ho 2022, appendix D). All latents are [B, C, h, w]; t is int64 [B].
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

Prediction = Literal["epsilon", "v_prediction"]


@dataclass(frozen=True, eq=False)
class NoiseSchedule:
    """`alphas_cumprod` float32 [T], strictly decreasing; `prediction` is what the network predicts, and the unit of the training loss."""

    alphas_cumprod: Tensor
    prediction: Prediction = "epsilon"

    def __post_init__(self):
        a = self.alphas_cumprod
        if a.ndim != 1 or not bool(((a > 0) & (a < 1)).all()) or not bool((a.diff() < 0).all()):
            raise ValueError(f"expected alphas_cumprod strictly decreasing, [T] and between 0 and 1, found shape {list(a.shape)}")
        if self.prediction not in ("epsilon", "v_prediction"):
            raise ValueError(f"expected prediction epsilon or v_prediction, found {self.prediction!r}")

    @staticmethod
    def scaled_linear(prediction: Prediction = "epsilon", steps: int = 1000, start: float = 0.00085, end: float = 0.012) -> NoiseSchedule:
        """Stable Diffusion 1.5's schedule: the square roots of the betas are linearly spaced."""
        betas = torch.linspace(start**0.5, end**0.5, steps, dtype=torch.float64) ** 2
        return NoiseSchedule(torch.cumprod(1 - betas, 0).float(), prediction)

    def __len__(self) -> int:
        return len(self.alphas_cumprod)

    def alpha_sigma(self, t: Tensor) -> tuple[Tensor, Tensor]:
        """alpha_t and sigma_t, each [B, 1, 1, 1]."""
        squared = self.alphas_cumprod.to(t.device)[t][:, None, None, None]
        return squared.sqrt(), (1 - squared).sqrt()

    def add_noise(self, latents: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """x_t from x_0 and eps."""
        alpha, sigma = self.alpha_sigma(t)
        return alpha * latents + sigma * noise

    def velocity(self, latents: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """v_t from x_0 and eps."""
        alpha, sigma = self.alpha_sigma(t)
        return alpha * noise - sigma * latents

    def noise_from_output(self, output: Tensor, noisy: Tensor, t: Tensor) -> Tensor:
        """eps from the network's output and x_t: the output itself, or alpha v + sigma x_t."""
        if self.prediction == "epsilon":
            return output
        alpha, sigma = self.alpha_sigma(t)
        return alpha * output + sigma * noisy

    def output_from_noise(self, noise: Tensor, noisy: Tensor, t: Tensor) -> Tensor:
        """The network's output from eps and x_t, the inverse of `noise_from_output`: eps itself, or (eps - sigma x_t) / alpha."""
        if self.prediction == "epsilon":
            return noise
        alpha, sigma = self.alpha_sigma(t)
        return (noise - sigma * noisy) / alpha

    def image_from_noise(self, noise: Tensor, noisy: Tensor, t: Tensor) -> Tensor:
        """x_0 from eps and x_t."""
        alpha, sigma = self.alpha_sigma(t)
        return (noisy - sigma * noise) / alpha

    def loss_weight(self, t: Tensor) -> Tensor:
        """Weights [B, 1, 1, 1] that convert a squared error of eps into one of the network's output: 1, or 1 / alpha^2 for v."""
        alpha, _ = self.alpha_sigma(t)
        return torch.ones_like(alpha) if self.prediction == "epsilon" else alpha**-2
