"""What became of a shard: how many samples, what was lost, what was left out and why."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

NAMED = 100
"""So many members or offsets are named for one reason in one shard; the others are counted."""
_REASONS = 1000


@dataclass
class Ledger:
    """One shard's account, while it is read and after."""

    shard: str
    """The shard's URL."""
    rows: int = 0
    """Samples that this import makes rows of."""
    samples: int = 0
    """Samples found, those included that the dataset has already."""
    lost: dict[str, list[int]] = field(default_factory=dict)
    """Offsets by reason: what could not be read."""
    skipped: dict[str, list[str]] = field(default_factory=dict)
    """Members by reason: what was read and is no sample, or not a further one."""
    more: dict[str, int] = field(default_factory=dict)
    """By reason, how many there were beyond those named."""

    @property
    def complete(self) -> bool:
        """Whether nothing was lost."""
        return not self.lost

    def lose(self, offset: int, reason: str) -> None:
        """Count a stretch that cannot be read."""
        # Reasons carry sizes and names; a shard made of damage must not fill the memory with them.
        if len(self.lost) >= _REASONS and reason not in self.lost:
            reason = "further damage, not listed one by one"
        self._count(self.lost.setdefault(reason, []), offset, reason)

    def skip(self, member: str, reason: str) -> None:
        """Count a member that is left out, or taken in an unusual way."""
        self._count(self.skipped.setdefault(reason, []), member, reason)

    def _count(self, named: list[Any], what: object, reason: str) -> None:
        if len(named) < NAMED:
            named.append(what)
        else:
            self.more[reason] = self.more.get(reason, 0) + 1

    def lost_rows(self) -> list[dict[str, Any]]:
        """List what was lost, as the report has it."""
        rows = []
        for reason, offsets in self.lost.items():
            rows += [{"shard": self.shard, "offset": offset, "reason": reason} for offset in offsets]
            if reason in self.more:
                rows.append({"shard": self.shard, "offset": offsets[-1], "reason": self._and_more(reason)})
        return sorted(rows, key=lambda row: row["offset"])

    def skipped_rows(self) -> list[dict[str, Any]]:
        """List what was skipped, as the report has it."""
        rows = []
        for reason, members in self.skipped.items():
            rows += [{"shard": self.shard, "member": member, "reason": reason} for member in members]
            if reason in self.more:
                rows.append({"shard": self.shard, "member": members[-1], "reason": self._and_more(reason)})
        return rows

    def _and_more(self, reason: str) -> str:
        return f"{reason} (and {self.more[reason]} more after this one)"
