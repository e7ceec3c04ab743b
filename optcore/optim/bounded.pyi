from typing import Any

from optcore.optim.optimizer import Optimizer
from optcore.optim.rules import _Params, _Schedule

class Rprop(Optimizer):
    def __init__(
        self, params: _Params, lr: _Schedule = 1e-2, etas: tuple[float, float] = (0.5, 1.2),
        step_sizes: tuple[float, float] = (1e-6, 50.0), maximize: bool = False, *,
        clip_norm: float | None = None, clip_value: float | None = None, nonfinite: str = "propagate",
        state_dtype: str | None = None, master_weights: bool = False, compensated: bool = False,
        stochastic_rounding: bool = False, ema_decay: float | None = None, uint16_as: str | None = None,
        seed: int = 0,
    ) -> None: ...

class Lion(Optimizer):
    def __init__(
        self, params: _Params, lr: _Schedule = 1e-4, betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: _Schedule = 0.0, maximize: bool = False, *,
        clip_norm: float | None = None, clip_value: float | None = None, nonfinite: str = "propagate",
        state_dtype: str | None = None, master_weights: bool = False, compensated: bool = False,
        stochastic_rounding: bool = False, ema_decay: float | None = None, uint16_as: str | None = None,
        seed: int = 0,
    ) -> None: ...

class Sophia(Optimizer):
    def __init__(
        self, params: _Params, lr: _Schedule = 1e-4, betas: tuple[float, float] = (0.965, 0.99), rho: float = 0.04,
        weight_decay: _Schedule = 0.1, eps: float = 1e-15, maximize: bool = False, *,
        clip_norm: float | None = None, clip_value: float | None = None, nonfinite: str = "propagate",
        state_dtype: str | None = None, master_weights: bool = False, compensated: bool = False,
        stochastic_rounding: bool = False, ema_decay: float | None = None, uint16_as: str | None = None,
        seed: int = 0,
    ) -> None: ...
    def update_hessian(self, estimates: Any) -> None: ...
