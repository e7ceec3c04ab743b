"""The displays: a bar on a terminal, a line without rich, plain lines in a file."""

import io
import re
import sys

import pytest

from optcore import progress

END = r"[\d,]+ examples/s  0:00 in all  loss 0\.5  validation 0\.25  accuracy 98\.77 %  lr 0\.001"


class Terminal(io.StringIO):
    def isatty(self):
        return True


def drive(stream, epochs=25, done=0):
    display = progress.show(epochs, 2, 64, done, stream)
    for e in range(done, epochs):
        display.update(e, 1, lambda: {"loss": 1.0})
        display.update(e + 1, 0, lambda: {"loss": 0.5, "validation": 0.25, "accuracy": 0.98765, "lr": 1e-3})
    display.close()
    return stream.getvalue()


@pytest.mark.parametrize(("epochs", "done", "shown"), [
    (25, 0, [1, 3, 6, 9, 12, 15, 18, 21, 24, 25]), (3, 0, [1, 2, 3]), (25, 20, [21, 24, 25])])
def test_a_file_gets_about_ten_clean_lines(epochs, done, shown):
    lines = drive(io.StringIO(), epochs, done).splitlines()
    assert [int(line.split("/")[0].split()[1]) for line in lines] == shown
    assert re.fullmatch(rf"epoch {epochs}/{epochs}  {END}", lines[-1])


def test_a_terminal_gets_a_bar(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    text = drive(Terminal())
    assert "25/25" in text
    assert "accuracy 98.77 %" in text
    assert "\n" in text


def test_a_narrow_terminal_gets_what_fits(monkeypatch):
    monkeypatch.setenv("COLUMNS", "60")
    for rich in (True, False):
        if not rich:
            monkeypatch.setitem(sys.modules, "rich", None)
        shown = [re.sub(r"\x1b\[\S*?[a-zA-Z]", "", line) for line in re.split(r"[\r\n]", drive(Terminal()))]
        assert max(map(len, shown)) <= 60
        assert any(re.match("epoch 25/25 .*examples/s  0:00 in all", line) for line in shown)


def test_without_rich_one_line_rewrites_itself(monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setitem(sys.modules, "rich", None)
    text = drive(Terminal())
    assert text.count("\n") == 1
    assert re.search(rf"epoch 25/25  {END}\n$", text)


class Clock:
    now = 100.0

    def perf_counter(self):
        return self.now


def test_throughput_and_time_left(monkeypatch):
    """A run resumed at epoch 2.5 of 10: half an epoch of 1,000 examples in 2 s leaves 7 epochs, 28 s."""
    clock, stream = Clock(), io.StringIO()
    monkeypatch.setattr(progress, "time", clock)
    display = progress.show(10, 20, 1000, 2.5, stream)
    clock.now += 2.0
    display.update(3, 0, dict)
    clock.now += 7 * 3600.0
    display.update(10, 0, dict)
    assert stream.getvalue().splitlines() == [
        "epoch  3/10  250 examples/s  0:28 left", "epoch 10/10  0 examples/s  7:00:02 in all"]


@pytest.mark.parametrize("rich", [True, False])
def test_numbers_are_only_asked_for_when_they_are_shown(monkeypatch, rich):
    if not rich:
        monkeypatch.setitem(sys.modules, "rich", None)
    monkeypatch.setattr(progress, "time", Clock())       # stands still
    asked = []
    for stream, times in ((Terminal(), 1), (io.StringIO(), 0)):
        display = progress.show(3, 1000, 1000, stream=stream)
        for i in range(100):
            display.update(0, i, lambda: asked.append(1) or {})
        display.close()
        assert len(asked) == times
        asked.clear()


@pytest.mark.parametrize("rich", [True, False])
def test_a_line_beside_the_display(monkeypatch, rich):
    if not rich:
        monkeypatch.setitem(sys.modules, "rich", None)
    for stream in (Terminal(), io.StringIO()):
        display = progress.show(3, 10, 10, stream=stream)
        display.update(1, 0, lambda: {"loss": 0.5})
        display.say("look [here]")
        display.close()
        assert "look [here]\n" in stream.getvalue()
