"""What a training will take of the memory, told before anything is computed.

One step is gone through with tensors that have a type, a shape and a device but no content (PyTorch's fake tensors), by the trainer's own
code, so that checkpointing, accumulation and lower precision count as they are. What is alive at once is added up, byte by byte.

Counted: the frozen networks that are loaded and the probe, each in its own type; the gradients, the optimiser's moments and the moving
average; and the most that lives beside them in the whole step: what is kept for the way back, what is worked on, and the encoders and the
autoencoder at work on the images. Every row counts as masked.

So told, a step agrees with what PyTorch's own allocator hands out to less than a percent (tests/training/test_forecast.py).

Not counted: what a library takes inside one of its operations, and for itself, which on the CPU are about 0.1 GB from the first step on;
what an allocator holds in reserve or cannot give back; Python; images that wait for their turn, and, in the machine's memory, the shards
that are read (--data.interleave of them); validations and sample grids, which keep nothing for a backward pass but have the averaged
probe beside the one that is trained.
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
from ..probe.probe import Probe
from .batch import Batch, DataShard
from .config import TrainConfig
from .context import TrainingContext
from .trainer import Trainer


@dataclass(frozen=True)
class Memory:
    """Bytes on the device.

    Attributes:
        weights: of the frozen networks and of the probe.
        optimiser: gradients, moments and moving average; with several processes also the buffers in which they exchange gradients.
        activations: what the fullest moment of a step has beyond these.
    """

    weights: int
    optimiser: int
    activations: int

    @property
    def total(self) -> int:
        return self.weights + self.optimiser + self.activations

    def __str__(self) -> str:
        return (
            f"{gigabytes(self.total)}: weights {gigabytes(self.weights)}, gradients, optimiser and average {gigabytes(self.optimiser)}, "
            f"activations {gigabytes(self.activations)}"
        )


def estimate_memory(context: TrainingContext, probe: Probe, config: TrainConfig, world: int = 1) -> Memory:
    """What training this probe will take in each of `world` processes; neither the probe nor the context is changed.

    Raises:
        UserError: what the context's source raises when it makes its first batch.
    """
    device = context.model.device
    batches = context.source.batches(0, DataShard(config.micro_batch, config.micro_batch))
    batch = next(batches)
    fake = FakeTensorMode(allow_non_fake_inputs=True)  # the few real tensors that a network makes itself join in
    memo: dict[int, Any] = {id(context.source): context.source}  # of the deep copy: what it has copied, by the original's id
    with FakeCopyMode(fake):
        frozen, batch = copy.deepcopy(context, memo), copy.deepcopy(batch)
    with fake, device:
        trained = Probe(probe.config)
    vars(trained)["to"] = lambda device: trained  # it is there already, and fake tensors cannot be moved in their place
    weights = [*memo.values(), *trained.state_dict().values()]
    live = _Live(device, [*weights, *vars(batch).values()])
    with fake, live, _Answers(len(batch.rows)):
        gradients, others = _rehearse(config, frozen, trained, batch)
    staying = gradients + others
    exchanged = gradients if world > 1 else 0  # DistributedDataParallel keeps a copy of all gradients, in buckets
    return Memory(_bytes(weights, device), staying + exchanged, max(live.most - staying, 0))


def _rehearse(config: TrainConfig, context: TrainingContext, probe: Probe, batch: Batch) -> tuple[int, int]:
    """A step as the trainer does it. Returns the bytes of the gradients, and of the moments and the moving average."""
    accumulates = config.batch > config.micro_batch
    trainer = Trainer(replace(config, batch=config.micro_batch), context, probe)
    trainer.scaler = None  # a few numbers, which it would have to know
    optimizer, device = trainer.optimizer, context.model.device
    _set_gradients(optimizer.parameters)
    gradients = _bytes([weight.grad for weight in optimizer.parameters], device)
    optimizer.step(1.0)  # so that the moments are there
    if accumulates:  # so are, from the second micro-batch on, the gradients
        _set_gradients(optimizer.parameters)
    trainer.one_step(cast(Any, _Same(batch)))
    moments = [entry for part in optimizer.parts.values() for state in part.state.values() for entry in state.values()]
    return gradients, _bytes([*moments, *trainer.average.weights.values()], device)


def _set_gradients(weights: Iterable[Tensor]) -> None:
    for weight in weights:
        weight.grad = torch.zeros_like(weight)


class _Same:
    """A feed that has one batch only."""

    def __init__(self, batch: Batch):
        self._batch = batch

    def next(self) -> Batch:
        return self._batch


def _bytes(tensors: Iterable[Any], device: torch.device) -> int:
    """Of the memory on a device that tensors share or have for themselves."""
    found = [tensor.untyped_storage() for tensor in tensors if isinstance(tensor, Tensor) and tensor.device.type == device.type]
    return sum({storage._cdata: storage.nbytes() for storage in found}.values())


class _Answers(TorchFunctionMode):
    """Answers what is asked of numbers that are not there: every row of a batch is masked, and every number is 1."""

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


class _Live(TorchDispatchMode):
    """Adds up the bytes of all tensors of a device that are made while it is open, as long as they live. `most` is the largest sum so far.

    `given` were there before and are not counted, nor are views of them.
    """

    def __init__(self, device: torch.device, given: Iterable[Any]):
        super().__init__()
        self._type, self._given = device.type, [entry for entry in given if isinstance(entry, Tensor)]
        self._seen = {tensor.untyped_storage()._cdata for tensor in self._given}
        self._now, self.most = 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for entry in tree_leaves(result):
            if isinstance(entry, Tensor) and entry.device.type == self._type:
                self._add(entry.untyped_storage())
        return result

    def _add(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self._seen:
            return
        self._seen.add(key)
        self._now += size
        self.most = max(self.most, self._now)
        weakref.finalize(storage, self._drop, key, size)

    def _drop(self, key: int, size: int) -> None:
        self._seen.discard(key)
        self._now -= size
