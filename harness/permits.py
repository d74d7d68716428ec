"""What a verdict permits: to run, to be timed, to win or be exported. The one place that knows the table.

| verdict                             | may be run                   | may be timed  | may win, be exported      |
|-------------------------------------|------------------------------|---------------|---------------------------|
| PROVED                              | yes                          | yes           | yes                       |
| PROVED_BOUNDED, workloads covered   | yes                          | yes, labelled | yes, labelled             |
| PROVED_BOUNDED for other sizes      | yes                          | yes, labelled | on request only, labelled |
| TESTED, UNKNOWN                     | yes                          | yes, labelled | on request only, labelled |
| REFUTED                             | to replay the counterexample | no            | no                        |

PROVED_BOUNDED holds for the sizes that its obligations name (`dsl.verify.records.covers`); a label says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Winning = Literal["yes", "on request", "no"]


@dataclass(frozen=True)
class Permit:
    """`label` stands beside every time and in every table, "" where nothing has to be said."""

    timed: bool
    wins: Winning
    label: str = ""


_PERMITS = {
    "PROVED": Permit(True, "yes"),
    "PROVED_BOUNDED": Permit(True, "yes", "proved for the workloads' sizes"),
    "TESTED": Permit(True, "on request", "tested only"),
    "UNKNOWN": Permit(True, "on request", "not proved"),
    "REFUTED": Permit(False, "no", "refuted"),
}


_UNCOVERED = Permit(True, "on request", "proved for other sizes only")


def permit(verdict: str, covered: bool = False) -> Permit:
    """`covered`: what is proved for some sizes is proved for those of the workloads. Raises KeyError for a word that is
    no verdict: nothing is permitted by a mistake."""
    return _UNCOVERED if verdict == "PROVED_BOUNDED" and not covered else _PERMITS[verdict]


__all__ = ["Permit", "Winning", "permit"]
