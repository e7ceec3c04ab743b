"""What a person sees while a network is trained: a live line on a terminal, a few plain lines in a file."""

import shutil
import sys
import time

__all__ = ["show", "show_count"]

_INTERVAL = 0.1     # seconds between two refreshes of a live line
_BAR = 12           # characters


def show(epochs, steps, examples, done=0.0, stream=None):
    """Return a display for a run: ``update(epoch, step, numbers)``, ``say(text)``, then ``close()``.

    On a terminal a bar of the package rich where it is installed, else one line that rewrites itself; elsewhere
    about ten plain lines in the whole run. Each shows the examples a second and the time that is left, both from what
    was done since the display began, validation and checkpoints included.

    Parameters
    ----------
    epochs : int
        In all.
    steps, examples : int
        In an epoch.
    done : float
        Epochs that are behind (of a resumed run).
    stream : text file, optional
        Standard error by default.

    Examples
    --------
    >>> import sys
    >>> display = show(2, steps=10, examples=320, stream=sys.stdout)
    >>> display.update(1, 0, lambda: {"loss": 0.25})        # doctest: +ELLIPSIS
    epoch 1/2  ... examples/s  0:00 left  loss 0.25
    """
    stream = sys.stderr if stream is None else stream
    pace = _Pace(epochs, steps, examples, done)
    if not stream.isatty():
        return _Lines(pace, int(done), stream)
    try:
        import rich
    except ModuleNotFoundError:
        return _OneLine(pace, stream)
    del rich
    return _Bar(pace, stream)


class _Pace:
    """How fast a run is."""

    def __init__(self, epochs, steps, examples, done):
        self.epochs, self.steps, self.examples = epochs, steps, examples
        self.begin, self.start = done, time.perf_counter()

    def text(self, epoch, step, numbers):
        """The throughput, the time that is left, and the numbers."""
        done, seconds = epoch + step / self.steps, max(time.perf_counter() - self.start, 1e-9)
        rate, left = (done - self.begin) / seconds, self.epochs - done
        shown = []
        if rate > 0:
            shown = [f"{self.examples * rate:,.0f} examples/s",
                     f"{_duration(left / rate)} left" if left > 0 else f"{_duration(seconds)} in all"]
        shown += [f"{name} {_number(name, value)}" for name, value in numbers.items()]
        return "  ".join(shown)


def _number(name, value):
    return f"{100 * value:.2f} %" if name == "accuracy" else f"{value:.4g}"


def _duration(seconds):
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


class _Lines:
    """Plain lines, one in every tenth of the run."""

    def __init__(self, pace, done, stream):
        self.pace, self.stream = pace, stream
        self.every, self.last = -(-pace.epochs // 10), done

    def update(self, epoch, step, numbers):
        if epoch > self.last:
            epochs = self.pace.epochs
            if epoch % self.every == 0 or epoch in (1, epochs):
                width = len(str(epochs))
                self.say(f"epoch {epoch:{width}d}/{epochs}  {self.pace.text(epoch, step, numbers())}")
            self.last = epoch

    def say(self, text):
        print(text, file=self.stream, flush=True)

    def close(self):
        pass


class _Live:
    """What is refreshed now and then: `draw` says how."""

    def __init__(self, pace, stream):
        self.pace, self.stream, self.due = pace, stream, 0.0

    def update(self, epoch, step, numbers):
        now = time.perf_counter()
        if now >= self.due or epoch == self.pace.epochs:
            self.due = now + _INTERVAL
            self.draw(epoch, step, self.pace.text(epoch, step, numbers()))


class _OneLine(_Live):
    """A line that rewrites itself."""

    text = ""

    def draw(self, epoch, step, text):
        width = shutil.get_terminal_size().columns - 1      # a line that wraps could not be rewritten
        self.text = f"epoch {epoch}/{self.pace.epochs}  {text}"[:width]
        self.stream.write(f"\r\x1b[K{self.text}")
        self.stream.flush()

    def say(self, text):
        self.stream.write(f"\r\x1b[K{text}\n{self.text}")
        self.stream.flush()

    def close(self):
        self.stream.write("\n")
        self.stream.flush()


class _Bar(_Live):
    """A bar of rich, refreshed from the training loop itself: no second thread."""

    def __init__(self, pace, stream):
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        super().__init__(pace, stream)
        self.progress = Progress(TextColumn("epoch {task.fields[epoch]}"), BarColumn(bar_width=_BAR),
                                 TextColumn("{task.fields[text]}"), console=Console(file=stream), auto_refresh=False)
        self.task = self.progress.add_task("", total=pace.epochs, completed=pace.begin, text="",
                                           epoch=f"{int(pace.begin)}/{pace.epochs}")
        self.progress.start()

    def draw(self, epoch, step, text):
        count = f"{epoch}/{self.pace.epochs}"
        text = text[:max(0, self.progress.console.width - len(f"epoch {count} ") - _BAR - 1)]
        self.progress.update(self.task, completed=epoch + step / self.pace.steps, text=text, epoch=count, refresh=True)

    def say(self, text):
        self.progress.console.print(text, markup=False, highlight=False)

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
