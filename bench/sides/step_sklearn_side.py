"""scikit-learn's training step: partial_fit over many batches, divided by their number. It has no batch norm."""

import warnings

import sklearn
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier

VERSION = f"scikit-learn {sklearn.__version__}"
warnings.simplefilter("ignore", ConvergenceWarning)


def prepare(work, variant):
    model = MLPClassifier(work.sizes[1:-1], batch_size=work.batch, learning_rate_init=work.lr, alpha=0.0,
                          shuffle=False)
    X, y = work.data()
    model.partial_fit(X[:work.batch], y[:work.batch], classes=range(work.sizes[-1]))

    def run(count):
        while count:
            steps = min(count, work.batches)
            model.partial_fit(X[:steps * work.batch], y[:steps * work.batch])
            count -= steps

    return run, lambda: [w.T for w in model.coefs_]
