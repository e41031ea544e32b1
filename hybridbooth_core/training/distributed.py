"""One process or many: what the trainer needs of accelerate, and the same without it."""

from __future__ import annotations

import logging
import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn

from ..errors import UserError
from ..probe.probe import Probe
from .sharding import shard

PATIENCE = timedelta(hours=6)  # the others wait while the first process validates and draws; who dies is noticed by the launcher

log = logging.getLogger("hybridbooth")
Module = TypeVar("Module", bound=nn.Module)


@dataclass(frozen=True, eq=False)
class DistributedEnv:
    """Which of how many processes this is.

    Attributes:
        accelerator: None for one process alone.
        plugin: what accelerate's configuration says of FSDP; None where every process holds all weights.
    """

    device: torch.device
    rank: int = 0
    world: int = 1
    accelerator: Any = None
    plugin: Any = None

    @staticmethod
    def alone(device: torch.device) -> DistributedEnv:
        """One process, without accelerate."""
        return DistributedEnv(device)

    @staticmethod
    def launched(device: str = "") -> DistributedEnv:
        """As `accelerate launch`, torchrun (or nobody) has set it up.

        Args:
            device: "cpu" keeps it there; "" takes what accelerate finds.
        Raises:
            UserError: accelerate is to use the first version of FSDP.
        """
        from accelerate import Accelerator
        from accelerate.utils import FullyShardedDataParallelPlugin, InitProcessGroupKwargs, disable_fsdp_ram_efficient_loading

        # Without a GPU, accelerate would take several processes for so many single ones. Precision is the trainer's own affair.
        cpu = device == "cpu" or ("LOCAL_RANK" in os.environ and not torch.cuda.is_available())
        accelerator = Accelerator(cpu=cpu, mixed_precision="no", kwargs_handlers=[InitProcessGroupKwargs(timeout=PATIENCE)])
        world, plugin = accelerator.num_processes, None
        if world == 1 and "MASTER_PORT" in os.environ and os.environ.get("ACCELERATE_USE_CPU", "").lower() == "true":
            log.warning(
                "accelerate launch --cpu starts one process, whatever --num_processes says; for several on CPUs: "
                "accelerate launch --multi_gpu --num_processes 2 ... --device cpu"
            )
        if world > 1 and os.environ.get("ACCELERATE_USE_FSDP", "").lower() == "true":
            plugin = FullyShardedDataParallelPlugin()  # out of what `accelerate launch` has put into the environment
            if plugin.fsdp_version != 2:
                raise UserError(f"expected fsdp_version 2 in accelerate's configuration, found {plugin.fsdp_version}; change it")
            disable_fsdp_ram_efficient_loading()  # else transformers may leave the frozen text encoder to the first process alone
        return DistributedEnv(accelerator.device, accelerator.process_index, world, accelerator, plugin)

    @property
    def main(self) -> bool:
        """Whether this is the process that writes files."""
        return self.rank == 0

    @property
    def split(self) -> bool:
        """Whether every process holds a part of the weights only."""
        return self.plugin is not None

    def wrap(self, probe: Probe) -> Probe:
        """The probe as it is to be called, so that gradients are averaged over processes. With FSDP its parameters become others."""
        if self.split:
            shard(probe, self.device, self.world, self.plugin.reshard_after_forward)
            return probe
        return probe if self.world == 1 else self.accelerator.prepare(probe)

    def adding_up(self, wrapped: Probe, last: bool) -> AbstractContextManager[Any]:
        """While open, gradients add up; only those of the last micro-batch are exchanged."""
        if self.split:
            cast(Any, wrapped).set_requires_gradient_sync(last)
        return nullcontext() if last or self.split or self.world == 1 else self.accelerator.no_sync(wrapped)

    def mean(self, values: Tensor) -> Tensor:
        """Means over the processes."""
        if self.world == 1:
            return values
        return self.accelerator.reduce(values.to(self.device), reduction="mean").cpu()

    def agree(self, number: int) -> bool:
        """Whether all processes have the same number; all get the same answer."""
        if self.world == 1:
            return True
        found = self.accelerator.gather(torch.tensor([number], device=self.device))
        return bool((found == found[0]).all())

    def wait(self) -> None:
        """Until all are here."""
        if self.world > 1:
            self.accelerator.wait_for_everyone()
