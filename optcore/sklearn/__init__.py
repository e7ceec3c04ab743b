"""Estimators for scikit-learn: its parameter names, trained by `optcore.train.fit`.

Needs scikit-learn (``pip install optcore[sklearn]``); nothing else in the library imports this.
"""

from optcore.sklearn.classifier import MLPClassifier
from optcore.sklearn.regressor import MLPRegressor

__all__ = ["MLPClassifier", "MLPRegressor"]
