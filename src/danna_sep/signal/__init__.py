"""Differentiable functions of tensors, without state."""
