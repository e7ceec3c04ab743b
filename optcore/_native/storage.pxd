# How an array is kept in memory, and what it holds.
cimport numpy as cnp

from optcore._native.c cimport oc_array

# Sets data and storage of `to` from an array of a dtype that a rule can read; `uint16_as` is what uint16 holds, or None.
# TypeError for another dtype or byte order, ValueError for a layout that cannot be used.
cdef cnp.ndarray stored(object a, str name, int intent, str uint16_as, oc_array *to)
