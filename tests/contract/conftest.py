"""Fixtures of the suites that run PyTorch beside the library."""

import pytest
import torch


@pytest.fixture
def muon_in_the_dtype_of_its_parameters(monkeypatch):
    """PyTorch orthogonalises in bfloat16; the arithmetic is compared without that, bfloat16 by a test of its own."""
    monkeypatch.setattr(torch.Tensor, "bfloat16", torch.Tensor.clone)
