"""Random state dicts in the published layouts of ELITE, SEARLE / LinCIR and Pic2Word, at full size."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn


def _named(module: nn.Module, prefix: str) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": tensor.detach().clone() for name, tensor in module.state_dict().items()}


def elite_mlp(hidden: int = 1024) -> nn.Sequential:
    mlp = nn.Sequential(
        nn.Linear(1024, hidden), nn.LayerNorm(hidden), nn.LeakyReLU(), nn.Linear(hidden, hidden), nn.LayerNorm(hidden), nn.LeakyReLU(),
        nn.Linear(hidden, 768),
    )  # fmt: skip
    for norm in (mlp[1], mlp[4]):  # new norms are all ones and zeros, which would hide a swap
        nn.init.normal_(norm.weight)
        nn.init.normal_(norm.bias)
    return mlp


@pytest.fixture(scope="package")
def elite() -> dict[str, Tensor]:
    """A flat dictionary, with two of the 32 attention matrices that the published file also contains."""
    torch.manual_seed(1)
    table: dict[str, Tensor] = {}
    for i in range(5):
        table |= _named(elite_mlp(), f"mapping_{i}") | _named(elite_mlp(), f"mapping_patch_{i}")
    place = "down_blocks_0_attentions_0_transformer_blocks_0_attn2"
    return table | {f"{place}_to_k.weight": torch.randn(320, 768), f"{place}_to_v.weight": torch.randn(320, 768)}


@pytest.fixture(scope="package")
def phi() -> dict:
    """As the training of SEARLE and LinCIR saves it: nested, beside the epoch."""
    torch.manual_seed(2)
    net = nn.Sequential(
        nn.Linear(768, 3072), nn.GELU(), nn.Dropout(0.5), nn.Linear(3072, 3072), nn.GELU(), nn.Dropout(0.5), nn.Linear(3072, 768)
    )
    return {"epoch": 3, "Phi": _named(net, "layers")}


@pytest.fixture(scope="package")
def pic2word() -> dict:
    """As the training of Pic2Word saves it: beside its CLIP and the optimizer state, with DistributedDataParallel's names."""
    torch.manual_seed(3)
    blocks = [_named(nn.Linear(768, 512), "module.layers.0.0"), _named(nn.Linear(512, 512), "module.layers.1.0")]
    img2text = {**blocks[0], **blocks[1], **_named(nn.Linear(512, 768), "module.fc_out")}
    return {
        "epoch": 1,
        "name": "a run",
        "state_dict": {"module.visual.proj": torch.randn(4, 4), "module.logit_scale": torch.tensor(1.0)},
        "state_dict_img2text": img2text,
        "optimizer": {"state": {0: {"step": 1, "exp_avg": torch.zeros(2)}}, "param_groups": [{"lr": 1e-4, "params": [0]}]},
    }
