from numpy import ndarray

def forward(
    x: ndarray, weight: ndarray | None, bias: ndarray | None, running_mean: ndarray | None,
    running_var: ndarray | None, training: bool, momentum: float | None, eps: float, channel_axis: int,
    out: ndarray | None = None, num_batches: ndarray | None = None, residual: ndarray | None = None,
    activation: str | None = None, unbiased: bool = True, momentum_on: str = "new",
    limits: tuple[float, float] | None = None,
) -> tuple[ndarray, ndarray | None, ndarray | None, ndarray | None, ndarray | None, ndarray | None]: ...
def backward(
    dy: ndarray, x: ndarray, weight: ndarray | None, saved: object, running_mean: ndarray | None,
    running_var: ndarray | None, eps: float, channel_axis: int, out: ndarray | None = None,
    y: ndarray | None = None, dresidual: ndarray | None = None,
) -> tuple[ndarray, ndarray, ndarray]: ...
def jvp(
    x: ndarray, weight: ndarray | None, saved: object, rx: ndarray, rweight: ndarray | None,
    rbias: ndarray | None, running_mean: ndarray | None, running_var: ndarray | None, eps: float,
    channel_axis: int, y: ndarray | None = None, rresidual: ndarray | None = None,
) -> tuple[ndarray, ndarray, ndarray]: ...
def backward_jvp(
    dy: ndarray, x: ndarray, weight: ndarray | None, saved: object, rdy: ndarray, rx: ndarray,
    rweight: ndarray | None, rsaved: object, running_mean: ndarray | None, running_var: ndarray | None,
    eps: float, channel_axis: int, y: ndarray | None = None,
) -> tuple[ndarray, ndarray, ndarray]: ...
def doubles(a: ndarray | None, name: str, channels: int, otherwise: float) -> ndarray: ...
def moments(x: ndarray, channel_axis: int) -> tuple[int, ndarray, ndarray, ndarray]: ...
def merge(
    count: float, mean: ndarray, mean_rest: ndarray, m2: ndarray, other_count: float, other_mean: ndarray,
    other_mean_rest: ndarray, other_m2: ndarray,
) -> tuple[ndarray, ndarray, ndarray]: ...
