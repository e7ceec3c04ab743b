from typing import Any

from optcore.optim.optimizer import Optimizer
from optcore.optim.rules import _Params, _Schedule

class LAMB(Optimizer):
    def __init__(
        self, params: _Params, lr: _Schedule = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-6,
        weight_decay: _Schedule = 0.01, bias_correction: bool = True, maximize: bool = False, *,
        clip_norm: float | None = None, clip_value: float | None = None, nonfinite: str = "propagate",
        state_dtype: str | None = None, master_weights: bool = False, compensated: bool = False,
        stochastic_rounding: bool = False, ema_decay: float | None = None, uint16_as: str | None = None,
        seed: int = 0,
    ) -> None: ...

class LARS(Optimizer):
    def __init__(
        self, params: _Params, lr: _Schedule = 1.0, momentum: float = 0.9, weight_decay: _Schedule = 5e-4,
        trust_coefficient: float = 1e-3, eps: float = 0.0, nesterov: bool = False, maximize: bool = False, *,
        clip_norm: float | None = None, clip_value: float | None = None, nonfinite: str = "propagate",
        state_dtype: str | None = None, master_weights: bool = False, compensated: bool = False,
        stochastic_rounding: bool = False, ema_decay: float | None = None, uint16_as: str | None = None,
        seed: int = 0,
    ) -> None: ...

class Adafactor(Optimizer):
    def __init__(
        self, params: _Params, lr: _Schedule = 1e-2, beta2_decay: float = -0.8,
        eps: tuple[float | None, float] = (None, 1e-3), d: float = 1.0, weight_decay: _Schedule = 0.0,
        maximize: bool = False, *,
        clip_norm: float | None = None, clip_value: float | None = None, nonfinite: str = "propagate",
        state_dtype: str | None = None, master_weights: bool = False, compensated: bool = False,
        stochastic_rounding: bool = False, ema_decay: float | None = None, uint16_as: str | None = None,
        seed: int = 0,
    ) -> None: ...

class Muon(Optimizer):
    def __init__(
        self, params: _Params, lr: _Schedule = 1e-3, weight_decay: _Schedule = 0.1, momentum: float = 0.95,
        nesterov: bool = True, ns_coefficients: tuple[float, float, float] = (3.4445, -4.775, 2.0315),
        eps: float = 1e-7, ns_steps: int = 5, adjust_lr_fn: str | None = None, maximize: bool = False, *,
        clip_norm: float | None = None, clip_value: float | None = None, nonfinite: str = "propagate",
        state_dtype: str | None = None, master_weights: bool = False, compensated: bool = False,
        stochastic_rounding: bool = False, ema_decay: float | None = None, uint16_as: str | None = None,
        seed: int = 0,
    ) -> None: ...
    def step(self, grads: Any) -> None: ...
