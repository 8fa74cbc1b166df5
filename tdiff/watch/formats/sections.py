"""Lines that say what the lines below them are of: `[val]`, `mode=eval`, `Evaluating on 512 examples`."""

from __future__ import annotations


class Section:
    """The split that such a line opened, and how long it lasts.

    An evaluation judges a step that training has reached. A record below a line of an evaluation is therefore one of
    training if it is farther than training was, unless the log names both splits by lines of their own.
    """

    def __init__(self) -> None:
        self.split = ""
        """`train` or `eval`; nothing where no line is open."""
        self._named: set[str] = set()  # splits that lines without anything else have named
        self._alone = False  # this line was one of them
        self._count: float | None = None  # of the newest record of training, as its line has it
        self._epoch: float | None = None

    def open(self, split: str, *, alone: bool) -> None:
        """A line that names a split has come; `alone`: it says nothing else."""
        self.split, self._alone = split, alone
        if alone and split:
            self._named.add(split)

    def of(self, count: float | None, epoch: float | None) -> str:
        """The split of a record that names none, by its counts of steps and epochs where it has them."""
        if not self.split:
            return ""
        if self.split == "eval" and not self._judges(count, epoch):
            self.split = ""
        return self.split

    def trained(self, count: float | None, epoch: float | None) -> None:
        """A record of training has come."""
        self._count = count if count is not None else self._count
        self._epoch = epoch if epoch is not None else self._epoch

    def _judges(self, count: float | None, epoch: float | None) -> bool:
        if (count is None and epoch is None) or (self._alone and len(self._named) > 1):
            return True
        if epoch is not None and self._epoch is not None and (count is None or epoch != self._epoch):
            return epoch <= self._epoch
        if count is None:
            return False
        return count <= self._count if self._count is not None else count == 0 or self._alone
