"""The compiled forms of a network: one for each call that is under way."""

from optcore._native.network import LOSSES, Network

__all__ = ["LOSSES", "Compiled"]


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
