from numpy import ndarray

def convolve_images(x: ndarray, weight: ndarray, bias: ndarray | None, out: ndarray, stride: tuple[int, int],
                    padding: tuple[int, int], add: bool = False) -> None: ...
def convolve_images_backward(dy: ndarray, x: ndarray, weight: ndarray, dweight: ndarray | None, dbias: ndarray | None,
                             dx: ndarray | None, stride: tuple[int, int], padding: tuple[int, int],
                             add: bool = False) -> None: ...
