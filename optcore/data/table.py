"""Tables as text: CSV with comma, semicolon or tab, with or without a header."""

import csv
import itertools
import math

import numpy as np

_MISSING = {"", "na", "n/a", "nan", "null", "none", "?", "-"}
_NAMES = {"none", "-"}      # which may be classes


def read_csv(path, target=-1, header=None):
    """Read a table of numbers with one column of targets.

    Parameters
    ----------
    path : path
    target : int or str
        The column of the targets, by its index or, with a header, its name.
    header : bool, optional
        Whether the first line holds names; by default it does where none of its cells is a number.

    Returns
    -------
    X : ndarray, float64 [N, D]
    target : ndarray of str [N]
    features : tuple of str or None

    Raises
    ------
    ValueError
        With file, line and column: a missing value, text for a number, a line of another length.
    """
    with open(path, newline="", encoding="utf-8-sig") as file:
        try:
            head = [file.readline()]
            while head[-1].isspace():
                head.append(file.readline())
            rows = csv.reader(itertools.chain(head, file), delimiter=max("\t;,", key=head[-1].count), strict=True)
            stripped = ((rows.line_num, [cell.strip() for cell in row]) for row in rows)
            return _read(path, (row for row in stripped if row[1] not in ([], [""])), target, header)
        except (csv.Error, UnicodeDecodeError) as error:
            raise ValueError(f"{path}: not a readable CSV file ({error})") from error


def _read(path, rows, target, header):
    first = next(rows, None)
    if first is None:
        raise ValueError(f"{path}: expected rows of numbers with a target, got none")
    line, cells = first
    if len(cells) < 2:
        raise ValueError(f"{path}:{line}: expected at least 2 columns, features and a target, separated by a comma, "
                         f"semicolon or tab; got one column")
    if header is None:
        header = not any(map(is_number, cells))
    names, width = cells if header else None, len(cells)
    at = _column(path, target, names, width)
    X, targets = [], []
    for line, row in rows if header else itertools.chain([first], rows):
        if len(row) != width:
            raise ValueError(f"{path}:{line}: expected {width} columns, got {len(row)}")
        place = f"{path}:{line}: column {_name(at, names)}"
        if row[at].lower() in _MISSING - _NAMES:
            raise ValueError(f"{place}: missing value: expected a target, got {row[at]!r}")
        if is_number(row[at]) and not math.isfinite(float(row[at])):
            raise ValueError(f"{place}: expected a finite target, got {row[at]!r}")
        targets.append(row[at])
        X.append(_numbers(path, line, row[:at] + row[at + 1:], at, names))
    if not X:
        raise ValueError(f"{path}: expected rows of numbers with a target, got none")
    return np.array(X), np.array(targets), tuple(names[:at] + names[at + 1:]) if header else None


def _column(path, target, names, width):
    """The index of the target's column."""
    if isinstance(target, str) and names and target in names:
        if names.count(target) > 1:
            raise ValueError(f"{path}: target: expected a name that stands once, {target!r} stands "
                             f"{names.count(target)} times")
        return names.index(target)
    try:
        at = int(target)
    except ValueError:
        raise ValueError(f"{path}: target: expected one of {', '.join(names)}, got {target!r}" if names else
                         f"{path}: target: the file has no header, expected an index, got {target!r}") from None
    if not -width <= at < width:
        raise ValueError(f"{path}: target: expected an index from {-width} to {width - 1}, got {at}")
    return at % width


def _name(column, names):
    return f"{column + 1} ({names[column]})" if names else str(column + 1)


def _numbers(path, line, cells, target, names):
    try:
        values = np.array([float(cell) for cell in cells])
        if np.isfinite(values).all():
            return values
    except ValueError:
        pass
    i = next(i for i, cell in enumerate(cells) if not (is_number(cell) and math.isfinite(float(cell))))
    missing = "missing value: " if cells[i].lower() in _MISSING else ""
    raise ValueError(f"{path}:{line}: column {_name(i + (i >= target), names)}: {missing}expected a finite number, "
                     f"got {cells[i]!r}")


def is_number(text):
    """Whether float takes it."""
    try:
        float(text)
    except ValueError:
        return False
    return True
