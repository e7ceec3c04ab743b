from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np

from optcore.optim.optimizer import Optimizer

_Params: TypeAlias = np.ndarray | Sequence[np.ndarray] | Mapping[str, np.ndarray] | Sequence[Mapping[str, Any]]
_Schedule: TypeAlias = float | Callable[[int], float]

class SGD(Optimizer):
    def __init__(
        self, params: _Params, lr: _Schedule = 1e-3, momentum: float = 0.0, dampening: float = 0.0,
        weight_decay: _Schedule = 0.0, nesterov: bool = False, maximize: bool = False, *,
        clip_norm: float | None = None, clip_value: float | None = None, nonfinite: str = "propagate",
        state_dtype: str | None = None, master_weights: bool = False, compensated: bool = False,
        stochastic_rounding: bool = False, ema_decay: float | None = None, uint16_as: str | None = None,
        seed: int = 0,
    ) -> None: ...

class Adagrad(Optimizer):
    def __init__(
        self, params: _Params, lr: _Schedule = 1e-2, lr_decay: float = 0.0, weight_decay: _Schedule = 0.0,
        initial_accumulator_value: float = 0.0, eps: float = 1e-10, maximize: bool = False, average: bool = False, *,
        clip_norm: float | None = None, clip_value: float | None = None, nonfinite: str = "propagate",
        state_dtype: str | None = None, master_weights: bool = False, compensated: bool = False,
        stochastic_rounding: bool = False, ema_decay: float | None = None, uint16_as: str | None = None,
        seed: int = 0,
    ) -> None: ...

class RMSprop(Optimizer):
    def __init__(
        self, params: _Params, lr: _Schedule = 1e-2, alpha: float = 0.99, eps: float = 1e-8,
        weight_decay: _Schedule = 0.0, momentum: float = 0.0, centered: bool = False, maximize: bool = False,
        warm_start: bool = False, *, clip_norm: float | None = None, clip_value: float | None = None,
        nonfinite: str = "propagate", state_dtype: str | None = None, master_weights: bool = False,
        compensated: bool = False, stochastic_rounding: bool = False, ema_decay: float | None = None,
        uint16_as: str | None = None, seed: int = 0,
    ) -> None: ...

class Adam(Optimizer):
    def __init__(
        self, params: _Params, lr: _Schedule = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
        weight_decay: _Schedule = 0.0, amsgrad: bool = False, maximize: bool = False,
        decoupled_weight_decay: bool = False, *, clip_norm: float | None = None, clip_value: float | None = None,
        nonfinite: str = "propagate", state_dtype: str | None = None, master_weights: bool = False,
        compensated: bool = False, stochastic_rounding: bool = False, ema_decay: float | None = None,
        uint16_as: str | None = None, seed: int = 0,
    ) -> None: ...

class AdamW(Optimizer):
    def __init__(
        self, params: _Params, lr: _Schedule = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
        weight_decay: _Schedule = 1e-2, amsgrad: bool = False, maximize: bool = False, *,
        clip_norm: float | None = None, clip_value: float | None = None, nonfinite: str = "propagate",
        state_dtype: str | None = None, master_weights: bool = False, compensated: bool = False,
        stochastic_rounding: bool = False, ema_decay: float | None = None, uint16_as: str | None = None,
        seed: int = 0,
    ) -> None: ...
