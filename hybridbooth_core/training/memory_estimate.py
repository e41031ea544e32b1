"""Estimates the memory of a training before anything is computed.

The trainer's own code runs one step with PyTorch's fake tensors (dtype, shape and device, but no data), so that activation checkpointing,
accumulation and autocast are included. The sizes of all tensors that are alive at the same time are added up.

Included: the weights of the frozen networks and the probe; gradients, optimizer moments and the moving average; with several processes
the buffers of DistributedDataParallel; and the peak of all other tensors in a step (saved activations, temporary tensors, encoders and
autoencoder). All rows count as masked. The estimate of a step agrees with PyTorch's allocator within 1 % (test_memory_estimate.py).

Not included: workspaces inside library operations (about 0.1 GB on the CPU); memory that the allocator reserves or cannot return; Python;
prefetched images and, in main memory, the shards that are read (--data.interleave of them); validation and sample grids, which save no
activations but hold a second, averaged probe.
"""

from __future__ import annotations

import copy
import weakref
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeCopyMode, FakeTensorMode
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from ..models.memory import gigabytes
from ..probe.learner import Learner
from .batch import Batch, DataShard
from .config import TrainConfig
from .context import TrainingContext
from .trainer import Trainer


@dataclass(frozen=True)
class Memory:
    """Bytes on the device.

    Attributes:
        weights: of the frozen networks and of the probe.
        optimizer: gradients, moments and moving average; with several processes also the buffers of DistributedDataParallel.
        activations: the peak of everything else in a step.
    """

    weights: int
    optimizer: int
    activations: int

    @property
    def total(self) -> int:
        return self.weights + self.optimizer + self.activations

    def __str__(self) -> str:
        return (
            f"{gigabytes(self.total)}: weights {gigabytes(self.weights)}, gradients, optimizer and average {gigabytes(self.optimizer)}, "
            f"activations {gigabytes(self.activations)}"
        )


def estimate_memory(context: TrainingContext, learner: Learner, config: TrainConfig, world: int = 1) -> Memory:
    """The memory of training this learner in each of `world` processes. Changes neither the learner nor the context.

    Raises:
        UserError: as the context's source, which makes one batch.
    """
    device = context.model.device
    batches = context.source.batches(0, DataShard(config.micro_batch, config.micro_batch))
    batch = next(batches)
    fake = FakeTensorMode(allow_non_fake_inputs=True)  # networks create a few real tensors
    memo: dict[int, Any] = {id(context.source): context.source}  # of the deep copy: id of the original to the copy
    with FakeCopyMode(fake):
        frozen, batch = copy.deepcopy(context, memo), copy.deepcopy(batch)
    with fake, device:
        trained = type(learner)(learner.config)  # type: ignore[call-arg]
    vars(trained)["to"] = lambda device: trained  # already on the device; fake parameters cannot be moved in place
    weights = [*memo.values(), *trained.state_dict().values()]
    live = _LiveBytes(device, [*weights, *vars(batch).values()])
    with fake, live, _FakeValues(len(batch.rows)):
        gradients, others = _fake_step(config, frozen, trained, batch)
    permanent = gradients + others
    buckets = gradients if world > 1 else 0  # of DistributedDataParallel, as large as all gradients
    return Memory(_bytes(weights, device), permanent + buckets, max(live.peak - permanent, 0))


def _fake_step(config: TrainConfig, context: TrainingContext, learner: Learner, batch: Batch) -> tuple[int, int]:
    """Runs one training step. Returns the bytes of the gradients, and of the moments and the moving average."""
    accumulates = config.batch > config.micro_batch
    trainer = Trainer(replace(config, batch=config.micro_batch), context, learner)
    trainer.scaler = None  # needs the values of tensors
    optimizer, device = trainer.optimizer, context.model.device
    _set_gradients(optimizer.parameters)
    gradients = _bytes([weight.grad for weight in optimizer.parameters], device)
    optimizer.step(1.0)  # creates the moments
    if accumulates:  # gradients exist from the second micro-batch on
        _set_gradients(optimizer.parameters)
    trainer.one_step(cast(Any, _Repeat(batch)))
    moments = [entry for part in optimizer.parts.values() for state in part.state.values() for entry in state.values()]
    return gradients, _bytes([*moments, *trainer.average.weights.values()], device)


def _set_gradients(weights: Iterable[Tensor]) -> None:
    for weight in weights:
        weight.grad = torch.zeros_like(weight)


class _Repeat:
    """A prefetcher that always returns the same batch."""

    def __init__(self, batch: Batch):
        self._batch = batch

    def next(self) -> Batch:
        return self._batch


def _bytes(tensors: Iterable[Any], device: torch.device) -> int:
    """Bytes of the distinct storages of tensors on a device."""
    storages = [tensor.untyped_storage() for tensor in tensors if isinstance(tensor, Tensor) and tensor.device.type == device.type]
    return sum({storage._cdata: storage.nbytes() for storage in storages}.values())


class _FakeValues(TorchFunctionMode):
    """Gives values to code that reads fake tensors: every row of the batch is masked, and every number is 1."""

    def __init__(self, rows: int):
        super().__init__()
        self._rows = rows

    def __torch_function__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if func is Tensor.item:
            return 1.0
        if func is Tensor.tolist:
            return torch.ones(args[0].shape).numpy().tolist()
        if func is Tensor.any and self._masked(args[0]):
            return True
        if func is Tensor.__getitem__ and self._masked(args[1]):
            return args[0].clone()
        return func(*args, **(kwargs or {}))

    def _masked(self, entry: Any) -> bool:
        return isinstance(entry, Tensor) and entry.dtype == torch.bool and entry.shape == (self._rows,)


class _LiveBytes(TorchDispatchMode):
    """Tracks the bytes of all tensors on a device that operations create, while they are alive. `peak` is the largest sum so far.

    Tensors in `existing` and views of them are not counted.
    """

    def __init__(self, device: torch.device, existing: Iterable[Any]):
        super().__init__()
        self._type, self._existing = device.type, [entry for entry in existing if isinstance(entry, Tensor)]
        self._known = {tensor.untyped_storage()._cdata for tensor in self._existing}
        self._now, self.peak = 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for entry in tree_leaves(result):
            if isinstance(entry, Tensor) and entry.device.type == self._type:
                self._add(entry.untyped_storage())
        return result

    def _add(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._known:
            return
        self._known.add(key)
        self._now += size
        self.peak = max(self.peak, self._now)
        weakref.finalize(storage, self._remove, key, size)

    def _remove(self, key: int, size: int) -> None:
        self._known.discard(key)
        self._now -= size
