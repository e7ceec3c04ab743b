"""Which values dropout keeps, in plain Python integers, from the papers of its parts."""

import numpy as np

MASK64, MASK32 = 2**64 - 1, 2**32 - 1
GOLDEN = 0x9E3779B97F4A7C15


def mix64(z):
    """The finaliser of splitmix64 (Steele, Lea and Flood 2014)."""
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 & MASK64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB & MASK64
    return z ^ (z >> 31)


def mix32(x):
    """Wellons 2018, "hash prospector": two rounds, 32 bits."""
    x ^= x >> 16
    x = x * 0x7FEB352D & MASK32
    x ^= x >> 15
    x = x * 0x846CA68B & MASK32
    return x ^ (x >> 16)


def kept(p, seed, step, n):
    """1.0 where element 0 to n - 1 is kept, else 0.0."""
    key = (seed + step * GOLDEN) & MASK64
    high = mix64((key + GOLDEN) & MASK64) >> 32
    return np.array([float(mix32(i ^ high) >> 8 >= round(p * 2**24)) for i in range(n)])
