from optcore.optim.optimizer import Optimizer
from optcore.optim.rules import _Params, _Schedule

class Adadelta(Optimizer):
    def __init__(
        self, params: _Params, lr: _Schedule = 1.0, rho: float = 0.9, eps: float = 1e-6,
        weight_decay: _Schedule = 0.0, maximize: bool = False, *,
        clip_norm: float | None = None, clip_value: float | None = None, nonfinite: str = "propagate",
        state_dtype: str | None = None, master_weights: bool = False, compensated: bool = False,
        stochastic_rounding: bool = False, ema_decay: float | None = None, uint16_as: str | None = None,
        seed: int = 0,
    ) -> None: ...

class Adamax(Optimizer):
    def __init__(
        self, params: _Params, lr: _Schedule = 2e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
        weight_decay: _Schedule = 0.0, maximize: bool = False, *,
        clip_norm: float | None = None, clip_value: float | None = None, nonfinite: str = "propagate",
        state_dtype: str | None = None, master_weights: bool = False, compensated: bool = False,
        stochastic_rounding: bool = False, ema_decay: float | None = None, uint16_as: str | None = None,
        seed: int = 0,
    ) -> None: ...

class NAdam(Optimizer):
    def __init__(
        self, params: _Params, lr: _Schedule = 2e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
        weight_decay: _Schedule = 0.0, momentum_decay: float = 4e-3, decoupled_weight_decay: bool = False,
        maximize: bool = False, *,
        clip_norm: float | None = None, clip_value: float | None = None, nonfinite: str = "propagate",
        state_dtype: str | None = None, master_weights: bool = False, compensated: bool = False,
        stochastic_rounding: bool = False, ema_decay: float | None = None, uint16_as: str | None = None,
        seed: int = 0,
    ) -> None: ...

class RAdam(Optimizer):
    def __init__(
        self, params: _Params, lr: _Schedule = 1e-3, betas: tuple[float, float] = (0.9, 0.999), eps: float = 1e-8,
        weight_decay: _Schedule = 0.0, decoupled_weight_decay: bool = False, maximize: bool = False, *,
        clip_norm: float | None = None, clip_value: float | None = None, nonfinite: str = "propagate",
        state_dtype: str | None = None, master_weights: bool = False, compensated: bool = False,
        stochastic_rounding: bool = False, ema_decay: float | None = None, uint16_as: str | None = None,
        seed: int = 0,
    ) -> None: ...

class AdEMAMix(Optimizer):
    def __init__(
        self, params: _Params, lr: _Schedule = 1e-3,
        betas: tuple[float, float, float] = (0.9, 0.999, 0.9999), alpha: float = 2.0, beta3_warmup: int | None = None,
        alpha_warmup: int | None = None, eps: float = 1e-8, weight_decay: _Schedule = 0.0, maximize: bool = False, *,
        clip_norm: float | None = None, clip_value: float | None = None, nonfinite: str = "propagate",
        state_dtype: str | None = None, master_weights: bool = False, compensated: bool = False,
        stochastic_rounding: bool = False, ema_decay: float | None = None, uint16_as: str | None = None,
        seed: int = 0,
    ) -> None: ...
