"""Batch norm over the items of all processes, on any backend: several processes train as one with a larger batch."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def synchronise_batch_norms(model: nn.Module) -> nn.Module:
    """The model, its batch norms replaced by ones over all processes, with the same parameters under the same names.

    Torch's own SyncBatchNorm works on GPUs only.
    """
    for name, child in model.named_children():
        if isinstance(child, _BatchNorm):
            synced = _SyncedBatchNorm(child.num_features, child.eps, child.momentum)
            synced.load_state_dict(child.state_dict())
            setattr(model, name, synced.train(child.training))
        else:
            synchronise_batch_norms(child)
    return model


class _SyncedBatchNorm(_BatchNorm):
    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"expected at least two axes, got {input.dim()}")

    def forward(self, input: Tensor) -> Tensor:
        if not self.training or not dist.is_initialized():
            return super().forward(input)
        values = input.float()
        axes = [axis for axis in range(input.dim()) if axis != 1]
        n_here = values.new_tensor([values.numel() / self.num_features])
        n = _sum_over_processes(n_here)
        mean = _sum_over_processes(values.sum(axes)) / n
        shape = [-1 if axis == 1 else 1 for axis in range(input.dim())]
        centred = values - mean.view(shape)
        variance = _sum_over_processes(centred.square().sum(axes)) / n
        self._remember(mean.detach(), variance.detach() * n / (n - 1).clamp(min=1))
        scaled = centred * (variance + self.eps).rsqrt().view(shape)
        return (scaled * self.weight.view(shape) + self.bias.view(shape)).to(input.dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.running_mean.lerp_(mean.to(self.running_mean), self.momentum)
        self.running_var.lerp_(variance.to(self.running_var), self.momentum)
        self.num_batches_tracked += 1


class _SumOverProcesses(torch.autograd.Function):
    """The sum; what a process gives reaches the losses of all, so its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.detach().clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        total = gradients[0].clone()
        dist.all_reduce(total)
        return total


def _sum_over_processes(values: Tensor) -> Tensor:
    total: Tensor = _SumOverProcesses.apply(values)  # type: ignore[no-untyped-call]
    return total
