"""The compiled forms of a network: one for each call that is under way."""

from functools import lru_cache

from optcore._native.loss_forms import LossForm
from optcore._native.network import Network
from optcore.nn import losses

_FORMS = {
    losses.CrossEntropy: lambda loss: LossForm("cross_entropy", loss.label_smoothing, loss.weight),
    losses.MSE: lambda loss: LossForm("mse", scale=loss.scale),
    losses.Huber: lambda loss: LossForm("huber", delta=loss.delta),
    losses.BCE: lambda loss: LossForm("bce", weight=loss.weight, pos_weight=loss.pos_weight,
                                       scale=loss.scale),
}


@lru_cache
def _form(loss):
    return _FORMS[type(loss)](loss)


def loss_form(loss):
    """Return the compiled form of a loss or of a loss's name; None where there is none, as for a loss of one's own."""
    loss = losses.find(loss)
    return _form(loss) if type(loss) in _FORMS else None


class Compiled:
    """Networks bound to memory, made when they are needed and kept for the next call.

    Calls from several threads find one each. What is kept is neither copied nor pickled.

    Parameters
    ----------
    program : optcore.nn.program.Program
    theta : ndarray [n]
    buffers : dict of str to ndarray
        Written by training passes.
    """

    def __init__(self, program, theta, buffers):
        self.program, self.theta, self.buffers = program, theta, buffers
        self._idle = {True: [], False: []}      # by whether it can train

    def take(self, rows, training):
        """Return a network for batches of up to `rows` examples, or None where the Python passes must do them."""
        try:
            network = self._idle[training].pop()
        except IndexError:
            network = None
        if network is None or (network.compiled and network.rows < rows):
            network = Network(self.program, self.theta, self.buffers, rows, training)
        if network.fits(rows):
            return network
        self.give(network, training)
        return None

    def give(self, network, training):
        """Take a network back."""
        self._idle[training].append(network)

    def __getstate__(self):
        return {**self.__dict__, "_idle": {True: [], False: []}}
