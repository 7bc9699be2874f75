"""What became of the pairs of a data set: how many were read, kept, cut and left out, and why."""

NUM_EXAMPLES = 5  # of each reason
SHOWN = 60  # characters of an example


class Report:
    """Counts of pairs, and the first examples of those that were left out.

    Attributes:
        unit: What the examples' numbers count from 1: `"pair"`, or `"line"` of a file.
        num_read: Pairs that were there, broken ones among them.
        num_kept: Pairs that are trained on.
        num_cut: Pairs among those kept that lost their ends.
        num_unknown: Unknown ids among those kept, both sides together.
        dropped: Numbers of pairs left out, by reason.
        examples: Texts such as `"line 7, broken line: 'abc'"`, at most five of a reason.

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

    def __init__(self, unit="pair"):
        self.unit = unit
        self.num_read = self.num_kept = self.num_cut = self.num_unknown = 0
        self.dropped = {}
        self.examples = []

    @property
    def num_dropped(self):
        """Number of pairs left out, for whatever reason."""
        return sum(self.dropped.values())

    def drop(self, reason, number, text):
        """Counts a pair that is left out, and keeps its number and text if it is one of the first."""
        count = self.dropped[reason] = self.dropped.get(reason, 0) + 1
        if count <= NUM_EXAMPLES:
            text = text if len(text) <= SHOWN else f"{text[:SHOWN]}..."
            self.examples.append(f"{self.unit} {number}, {reason}: {text}")

    def copy(self):
        """Returns a report of its own with the same counts."""
        other = Report(self.unit)
        vars(other).update(vars(self), dropped=dict(self.dropped), examples=list(self.examples))
        return other

    def __str__(self):
        end = f"{self.num_dropped:,} left out" + (":" if self.dropped else "")
        lines = [f"{self.num_read:,} {self.unit}s read, {self.num_kept:,} kept, {end}"]
        lines += [f"{count:>10,}  {reason}" for reason, count in self.dropped.items()]
        lines += [f"{self.num_cut:,} of those kept were cut"] if self.num_cut else []
        lines += [f"{self.num_unknown:,} unknown ids among those kept"] if self.num_unknown else []
        return "\n".join([*lines, *self.examples])
