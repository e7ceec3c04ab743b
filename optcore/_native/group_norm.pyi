from numpy import ndarray

def forward(
    x: ndarray, weight: ndarray | None, bias: ndarray | None, groups: int, channel_axis: int, eps: float,
    out: ndarray | None,
) -> tuple[ndarray, ndarray, ndarray, ndarray]: ...
def backward(
    dy: ndarray, x: ndarray, weight: ndarray | None, saved: object, groups: int, channel_axis: int,
    out: ndarray | None,
) -> tuple[ndarray, ndarray, ndarray]: ...
def jvp(
    x: ndarray, weight: ndarray | None, saved: object, rx: ndarray, rweight: ndarray | None, rbias: ndarray | None,
    groups: int, channel_axis: int,
) -> tuple[ndarray, ndarray, ndarray]: ...
def backward_jvp(
    dy: ndarray, x: ndarray, weight: ndarray | None, saved: object, rdy: ndarray, rx: ndarray,
    rweight: ndarray | None, rsaved: object, groups: int, channel_axis: int,
) -> tuple[ndarray, ndarray, ndarray]: ...
