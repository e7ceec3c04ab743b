"""What a rule with coupled weight decay descends: the loss and its penalty."""

import numpy as np

from optcore.objective import Objective


class Decayed(Objective):
    """``obj`` with 1/2 sum l_i theta_i^2 added: its gradient is what SGD, Adam and others with weight decay l see.

    Parameters
    ----------
    obj : Objective
    decay : array [n]
    """

    def __init__(self, obj, decay):
        super().__init__(theta0=obj.theta0, n_examples=obj.n_examples, theta_scale=obj.theta_scale)
        self._obj, self._decay = obj, decay
        self._exact, self.mode = obj.difference_reach(obj.theta0) == 0, obj.mode
        self.lower_bound = obj.lower_bound  # the penalty is not negative

    def penalty(self, theta):
        """Return 1/2 sum l_i theta_i^2."""
        return 0.5 * float(self._decay @ np.square(np.asarray(theta, np.float64)))

    def loss(self, theta, batch=None):
        """Return the loss and its penalty."""
        return self._obj.loss(theta, batch) + self.penalty(theta)

    def loss_and_grad(self, theta, batch=None):
        """Return the loss and its penalty, and their gradient."""
        loss, grad = self._obj.loss_and_grad(theta, batch)
        return loss + self.penalty(theta), (grad + self._decay * theta).astype(self.dtype)

    def hvp(self, theta, v, batch=None):
        """Return the Hessian, with the decay on its diagonal, times v."""
        return (self._obj.hvp(theta, v, batch) + self._decay * np.asarray(v, np.float64)).astype(self.dtype)

    def layers(self, theta, batch=None):
        """Return what the loss's own gradient does in the layers."""
        return self._obj.layers(theta, batch)

    def variants(self, theta, seed=0):
        """Return those of the loss that have the same parameters, with the penalty."""
        return tuple(v._replace(objective=Decayed(v.objective, self._decay))
                     for v in self._obj.variants(theta, seed) if v.theta.size == self.size)

    def gradient_noise(self):
        """Return that of the loss."""
        return self._obj.gradient_noise()

    @property
    def product_error(self):
        """That of the loss."""
        return self._obj.product_error
