"""Arrays of more than 2**31 elements in little memory: a few pages mapped over and over.

Elements of a mirrored array share memory with those of other places, but for the pages that are asked for: those stand
for themselves, and what is written there shows that the right element was meant.
"""

import ctypes
import mmap
import tempfile
import weakref

import numpy as np

PAGE = mmap.PAGESIZE
WINDOW = 512 * PAGE         # 2 MB: stays in the cache, and a few thousand mappings are enough
MAP_FIXED = 0x10
FAILED = ctypes.c_void_p(-1).value

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]


def _map(address, size, file=None, offset=0):
    flags = mmap.MAP_SHARED | MAP_FIXED if file else mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    where = _libc.mmap(address, size, mmap.PROT_READ | mmap.PROT_WRITE if file else 0, flags,
                       file.fileno() if file else -1, offset)
    if where == FAILED:
        raise OSError(ctypes.get_errno(), f"mmap of {size} bytes")
    return where


def mirrored(shape, dtype="float32", own=()):
    """Return zeros of this shape; ``own`` lists flat elements (negative: from the end) whose pages are not shared."""
    dtype, n = np.dtype(dtype), int(np.prod(shape))
    size = -(-n * dtype.itemsize // WINDOW) * WINDOW
    pages = sorted({i % n * dtype.itemsize // PAGE for i in own})
    with tempfile.TemporaryFile() as file:
        file.truncate(WINDOW + len(pages) * PAGE)
        start = _map(None, size)
        for at in range(0, size, WINDOW):
            _map(start + at, WINDOW, file)
        for k, page in enumerate(pages):
            _map(start + page * PAGE, PAGE, file, WINDOW + k * PAGE)
    memory = (ctypes.c_char * size).from_address(start)
    weakref.finalize(memory, _libc.munmap, start, size)
    return np.frombuffer(memory, dtype, n).reshape(shape)
