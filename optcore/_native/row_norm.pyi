from numpy import ndarray

def forward(
    x: ndarray, weight: ndarray | None, bias: ndarray | None, shape: tuple[int, ...], groups: int, eps: float,
    centred: bool, out: ndarray | None,
) -> tuple[ndarray, ndarray, ndarray, ndarray]: ...
def backward(
    dy: ndarray, x: ndarray, weight: ndarray | None, saved: object, shape: tuple[int, ...], groups: int,
    centred: bool, out: ndarray | None,
) -> tuple[ndarray, ndarray, ndarray]: ...
def jvp(
    x: ndarray, weight: ndarray | None, saved: object, rx: ndarray, rweight: ndarray | None, rbias: ndarray | None,
    shape: tuple[int, ...], groups: int, centred: bool,
) -> tuple[ndarray, ndarray, ndarray]: ...
def backward_jvp(
    dy: ndarray, x: ndarray, weight: ndarray | None, saved: object, rdy: ndarray, rx: ndarray,
    rweight: ndarray | None, rsaved: object, shape: tuple[int, ...], groups: int, centred: bool,
) -> tuple[ndarray, ndarray, ndarray]: ...
