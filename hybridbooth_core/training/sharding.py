"""Weights that are split over the processes (FSDP): made so, put together again, and spread out as they were.

What is not split passes through as it is, so nobody needs to know which it has.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from ..probe.probe import Probe
from ..probe.regressors import Regressor


def shard(probe: Probe, device: torch.device, world: int, free_between: bool) -> None:
    """Split every parameter of a probe over all processes, in place: each has its share of each tensor's first axis.

    While a block of the regressor is at work, its parameters are whole. PyTorch's fully_shard, that is, FSDP2.

    Args:
        free_between: blocks give their whole parameters back between the way there and the way back: less memory, more exchange.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (world,))
    for block in cast(Regressor, probe.regressor).blocks():
        fully_shard(block, mesh=mesh, reshard_after_forward=free_between)
    fully_shard(probe, mesh=mesh)


def is_split(value: Any) -> bool:
    """Whether this is a tensor of which this process has a part only."""
    kinds = sys.modules.get("torch.distributed.tensor")  # without it there are none
    return kinds is not None and isinstance(value, kinds.DTensor)


def whole(tree: Any, keep: bool = True) -> Any:
    """The same tables and lists with every split tensor put together; all processes must take part.

    They come to the CPU. `keep` off: this process only takes part, and has None in their places.
    """
    if is_split(tree):
        full = tree.full_tensor()
        return full.cpu() if keep else None
    if isinstance(tree, Mapping):
        return {name: whole(value, keep) for name, value in tree.items()}
    return [whole(value, keep) for value in tree] if isinstance(tree, list | tuple) else tree


def spread(full: Tensor, like: Tensor) -> Tensor:
    """A whole tensor, which every process has, split as `like` is."""
    if not is_split(like) or is_split(full):
        return full
    from torch.distributed.tensor import DTensor, distribute_tensor

    assert isinstance(like, DTensor)
    return distribute_tensor(full.to(like.device), like.device_mesh, like.placements, src_data_rank=None)


def spread_weights(full: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """`spread` of tensors by name."""
    return {name: spread(tensor, like[name]) for name, tensor in full.items()}


def spread_moments(state: dict[str, Any], parameters: Sequence[Tensor]) -> dict[str, Any]:
    """An optimiser's state with whole moments, split as its parameters are."""

    def placed(value: Any, parameter: Tensor) -> Any:
        return spread(value, parameter) if value.shape == parameter.shape else value  # a counter of steps has another

    moments = {n: {name: placed(value, parameters[n]) for name, value in entry.items()} for n, entry in state["state"].items()}
    return {**state, "state": moments}
