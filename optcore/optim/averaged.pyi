from typing import Any

from optcore.optim.optimizer import Optimizer
from optcore.optim.rules import _Params, _Schedule

class ASGD(Optimizer):
    def __init__(
        self, params: _Params, lr: _Schedule = 1e-2, lambd: float = 1e-4, alpha: float = 0.75, t0: float = 1e6,
        weight_decay: _Schedule = 0.0, maximize: bool = False, *,
        clip_norm: float | None = None, clip_value: float | None = None, nonfinite: str = "propagate",
        state_dtype: str | None = None, master_weights: bool = False, compensated: bool = False,
        stochastic_rounding: bool = False, ema_decay: float | None = None, uint16_as: str | None = None,
        seed: int = 0,
    ) -> None: ...

class _ScheduleFree:
    training: bool
    def train(self) -> None: ...
    def eval(self) -> None: ...
    def step(self, grads: Any) -> None: ...
    def state_dict(self, *, portable: bool = False) -> dict[str, Any]: ...
    def load_state_dict(self, state: dict[str, Any]) -> None: ...

class ScheduleFreeSGD(_ScheduleFree, Optimizer):
    def __init__(
        self, params: _Params, lr: _Schedule = 1.0, momentum: float = 0.9,
        weight_decay: _Schedule = 0.0, warmup_steps: int = 0, r: float = 0.0,
        weight_lr_power: float = 2.0, maximize: bool = False, *,
        clip_norm: float | None = None, clip_value: float | None = None, nonfinite: str = "propagate",
        state_dtype: str | None = None, master_weights: bool = False, compensated: bool = False,
        stochastic_rounding: bool = False, ema_decay: float | None = None, uint16_as: str | None = None,
        seed: int = 0,
    ) -> None: ...

class ScheduleFreeAdamW(_ScheduleFree, Optimizer):
    def __init__(
        self, params: _Params, lr: _Schedule = 2.5e-3, betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8, weight_decay: _Schedule = 0.0, warmup_steps: int = 0, r: float = 0.0,
        weight_lr_power: float = 2.0, maximize: bool = False, *,
        clip_norm: float | None = None, clip_value: float | None = None, nonfinite: str = "propagate",
        state_dtype: str | None = None, master_weights: bool = False, compensated: bool = False,
        stochastic_rounding: bool = False, ema_decay: float | None = None, uint16_as: str | None = None,
        seed: int = 0,
    ) -> None: ...
