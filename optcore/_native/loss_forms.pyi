from typing_extensions import disjoint_base

KINDS: dict[str, int]

@disjoint_base
class LossForm:
    def __init__(self, kind: str, smoothing: float = 0, weight: object = None, pos_weight: object = None,
                 delta: float = 0, scale: float = 1) -> None: ...
