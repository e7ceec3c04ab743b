"""What a person sees while a network is trained: a live line on a terminal, a few plain lines in a file."""

import sys
import time

__all__ = ["show", "show_count"]

_INTERVAL = 0.1     # seconds between two refreshes of a live line


def show(epochs, done=0, stream=None):
    """Return a display for a run: ``update(done, numbers)``, then ``close()``.

    On a terminal a bar of the package rich where it is installed, else one line that rewrites itself; elsewhere
    about ten plain lines in the whole run.

    Parameters
    ----------
    epochs, done : int
        Epochs in all, and those that are behind (of a resumed run).
    stream : text file, optional
        Standard error by default.

    Examples
    --------
    >>> import sys
    >>> display = show(2, stream=sys.stdout)
    >>> display.update(1, {"loss": 0.25})
    epoch 1/2  loss 0.25
    """
    stream = sys.stderr if stream is None else stream
    if not stream.isatty():
        return _Lines(epochs, done, stream)
    try:
        import rich
    except ModuleNotFoundError:
        return _OneLine(epochs, stream)
    del rich
    return _Bar(epochs, done, stream)


def _text(numbers):
    return "  ".join(f"{name} {_number(name, value)}" for name, value in numbers.items())


def _number(name, value):
    return f"{100 * value:.2f} %" if name == "accuracy" else f"{value:.4g}"


class _Lines:
    """Plain lines, one in every tenth of the run."""

    def __init__(self, epochs, done, stream):
        self.epochs, self.stream = epochs, stream
        self.every, self.last = -(-epochs // 10), done

    def update(self, done, numbers):
        if done > self.last and (done % self.every == 0 or done in (1, self.epochs)):
            width = len(str(self.epochs))
            print(f"epoch {done:{width}d}/{self.epochs}  {_text(numbers)}", file=self.stream, flush=True)
        self.last = done

    def close(self):
        pass


class _OneLine:
    """A line that rewrites itself."""

    def __init__(self, epochs, stream):
        self.epochs, self.stream = epochs, stream
        self.due = 0.0

    def update(self, done, numbers):
        now = time.perf_counter()
        if now >= self.due or done == self.epochs:
            self.due = now + _INTERVAL
            self.stream.write(f"\r\x1b[Kepoch {done}/{self.epochs}  {_text(numbers)}")
            self.stream.flush()

    def close(self):
        self.stream.write("\n")
        self.stream.flush()


class _Bar:
    """A bar of rich, refreshed from the training loop itself: no second thread."""

    def __init__(self, epochs, done, stream):
        from rich.console import Console
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        self.progress = Progress(
            TextColumn("epoch"), MofNCompleteColumn(), BarColumn(bar_width=24),
            TextColumn("{task.fields[numbers]}"), TimeRemainingColumn(elapsed_when_finished=True),
            console=Console(file=stream), auto_refresh=False)
        self.task = self.progress.add_task("", total=epochs, completed=done, numbers="")
        self.epochs, self.due = epochs, 0.0
        self.progress.start()

    def update(self, done, numbers):
        now = time.perf_counter()
        if now >= self.due or done == self.epochs:
            self.due = now + _INTERVAL
            self.progress.update(self.task, completed=done, numbers=_text(numbers), refresh=True)

    def close(self):
        self.progress.stop()


def show_count(what, stream=None):
    """Return a display for work of unknown length: a callable that takes the number done so far.

    On a terminal one line that rewrites itself; elsewhere a plain line at 10, 20, 50, 100, 200, ...

    Parameters
    ----------
    what : str
        What is counted.
    stream : text file, optional
        Standard error by default.

    Examples
    --------
    >>> import sys
    >>> display = show_count("products", stream=sys.stdout)
    >>> for done in range(25):
    ...     display(done)
    10 products
    20 products
    """
    stream = sys.stderr if stream is None else stream
    live, due = stream.isatty(), 0.0

    def display(done):
        nonlocal due
        now = time.perf_counter()
        if live and now >= due:
            due = now + _INTERVAL
            stream.write(f"\r\x1b[K{done} {what}")
            stream.flush()
        elif not live and done >= 10 and str(done).rstrip("0") in ("1", "2", "5"):
            print(f"{done} {what}", file=stream, flush=True)

    return display
