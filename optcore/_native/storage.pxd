# How an array is kept in memory, and what it holds.
cimport numpy as cnp

from optcore._native.c cimport oc_array

# Sets data and storage of `to` from an array of a dtype that a rule can read; `uint16_as` is what uint16 holds, or None.
# TypeError for another dtype or byte order, ValueError for a layout that cannot be used.
cdef cnp.ndarray stored(object a, str name, int intent, str uint16_as, oc_array *to)

# An array that is kept as `kind` says, a key of STORAGES; `extra` are the scales of codes, the low part of a pair, or None.
cdef oc_array described(cnp.ndarray a, str kind, cnp.ndarray extra, str rounding)
