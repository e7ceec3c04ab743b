"""Data: mini-batches, standardisation, a held-out part, class weights, and the files that hold data sets."""

from optcore.data.batches import batches, shuffled, split
from optcore.data.files import Dataset, load
from optcore.data.idx import read_idx
from optcore.data.rows import Rows
from optcore.data.scaling import Standardizer, standardize
from optcore.data.weights import class_weights

__all__ = ["Dataset", "Rows", "Standardizer", "batches", "class_weights", "load", "read_idx", "shuffled", "split",
           "standardize"]
