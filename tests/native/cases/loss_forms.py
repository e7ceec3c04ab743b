"""The losses' compiled forms have no function of their own to call: see the cases of `network`."""


def cases(rng):
    return ()
