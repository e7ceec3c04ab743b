"""A whole ``MLPClassifier().fit``, by either library: the variant names the module and, where it has one, the dtype."""

import importlib
import warnings

import numpy as np
import sklearn
from sklearn.exceptions import ConvergenceWarning

VERSION = f"scikit-learn {sklearn.__version__}"
warnings.simplefilter("ignore", ConvergenceWarning)


def prepare(work, variant):
    module, *dtype = variant.split()
    X, y, X_test, y_test = work.data()
    model = importlib.import_module(module).MLPClassifier(max_iter=work.max_iter, random_state=0)
    if dtype:
        model.set_params(dtype=dtype[0])

    def run(count):
        for _ in range(count):
            model.fit(X, y)

    def accuracy():
        return [np.array([model.n_iter_, model.score(X_test, y_test)])]

    return run, accuracy
