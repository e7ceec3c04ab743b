from typing import Any

import numpy as np
from typing_extensions import disjoint_base

from optcore._native.loss_forms import LossForm
from optcore._native.penalty import Penalty

@disjoint_base
class Network:
    def __new__(
        cls, program: Any, theta: np.ndarray, buffers: dict[str, np.ndarray], rows: int, training: bool,
    ) -> Network: ...
    @property
    def rows(self) -> int: ...
    @property
    def compiled(self) -> bool: ...
    def fits(self, rows: int) -> bool: ...
    def output(self, x: np.ndarray, out: np.ndarray) -> None: ...
    def loss_and_grad(
        self, x: np.ndarray, target: np.ndarray, loss: LossForm, grad: np.ndarray,
        weight: np.ndarray | None = None, penalty: Penalty | None = None,
    ) -> float: ...
    def step(
        self, X: np.ndarray, y: np.ndarray, index: np.ndarray | None, loss: LossForm, grad: np.ndarray,
        grads: Any, optimizer: Any, weight: np.ndarray | None = None, penalty: Penalty | None = None,
    ) -> float: ...
