import numpy as np

BLOCK: int
STORAGES: dict[str, int]
ROUNDINGS: dict[str, int]

def check_parameter(a: object, name: str, uint16_as: str | None) -> None: ...
def load(a: np.ndarray, kind: str, extra: np.ndarray | None, to: np.ndarray, rounding: str = "nearest") -> None: ...
def store(
    values: np.ndarray, to: np.ndarray, kind: str, extra: np.ndarray | None, key: int = 0, rounding: str = "nearest",
) -> None: ...
