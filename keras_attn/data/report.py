"""A report of the pairs of a data set: how many were read, kept, truncated and dropped, and why."""

from __future__ import annotations

NUM_EXAMPLES = 5  # of each reason
EXAMPLE_LENGTH = 60  # characters of an example


class Report:
    """Counts of pairs, and the first examples of the dropped ones.

    Attributes:
        unit: The counted unit, `"pair"`, or `"line"` of a file; numbers start at 1.
        num_read: Number of pairs that were read, including broken ones.
        num_kept: Number of pairs to train on.
        num_cut: Number of kept pairs that were truncated.
        num_unknown: Number of unknown ids in the kept pairs, both sides together.
        dropped: Number of dropped pairs by reason.
        examples: Texts such as `"line 7, broken line: 'abc'"`, at most five per reason.

    Example:
    >>> from keras_attn.data import Report
    >>> report = Report("line")
    >>> report.num_read, report.num_kept = 2, 1
    >>> report.drop("broken line", 2, "'no tab'")
    >>> print(report)
    2 lines read, 1 kept, 1 left out:
             1  broken line
    line 2, broken line: 'no tab'
    """

    def __init__(self, unit: str = "pair") -> None:
        self.unit = unit
        self.num_read = self.num_kept = self.num_cut = self.num_unknown = 0
        self.dropped: dict[str, int] = {}
        self.examples: list[str] = []

    @property
    def num_dropped(self) -> int:
        """Number of dropped pairs."""
        return sum(self.dropped.values())

    def drop(self, reason: str, number: int, text: str) -> None:
        """Counts a dropped pair, and keeps its number and text if it is one of the first."""
        count = self.dropped[reason] = self.dropped.get(reason, 0) + 1
        if count <= NUM_EXAMPLES:
            text = text if len(text) <= EXAMPLE_LENGTH else f"{text[:EXAMPLE_LENGTH]}..."
            self.examples.append(f"{self.unit} {number}, {reason}: {text}")

    def copy(self) -> Report:
        """Returns an independent copy."""
        other = Report(self.unit)
        vars(other).update(vars(self), dropped=dict(self.dropped), examples=list(self.examples))
        return other

    def __str__(self) -> str:
        end = f"{self.num_dropped:,} left out" + (":" if self.dropped else "")
        lines = [f"{self.num_read:,} {self.unit}s read, {self.num_kept:,} kept, {end}"]
        lines += [f"{count:>10,}  {reason}" for reason, count in self.dropped.items()]
        lines += [f"{self.num_cut:,} of those kept were cut"] if self.num_cut else []
        lines += [f"{self.num_unknown:,} unknown ids among those kept"] if self.num_unknown else []
        return "\n".join([*lines, *self.examples])
