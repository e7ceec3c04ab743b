"""Ctrl-C reaches the processes that tests start, also where the tests themselves run behind a shell's ``&``."""

import signal

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:       # a child inherits that; a handler it does not
    signal.signal(signal.SIGINT, signal.default_int_handler)
