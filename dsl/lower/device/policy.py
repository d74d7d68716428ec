"""The policy that a kernel is lowered under: which words the passes acted on, and what becomes of the others.

A pass asks for the words that it can honour. A word that no pass asked for, or that cannot be honoured as it stands,
is dropped with a report line, or refused where it is binding (`require(...)`, or scoped to a target). A word with
nothing to act on in this kernel (stages without staged operands) is refused under `require(...)` only: scoped to a
family of targets it is what other architectures of the family want.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

from kernelagent.dsl import ir
from kernelagent.dsl.diagnostics import Diagnostic, KernelError, Span
from kernelagent.dsl.dtypes import is_float
from kernelagent.dsl.elaborate.choices import EffectivePolicy
from kernelagent.dsl.lower.rewrite import walk_statements
from kernelagent.dsl.schedule import Choice

LATER = frozenset({"deterministic", "no_spills"})
"""Words that no pass acts on: they are checked on the kernel and on the machine code."""

_IMPOSSIBLE = frozenset({"cluster", "roles", "via", "layout"})
_WHY = {
    "warps": "the roles of this schedule decide how many warps there are",
    "cluster": "blocks share operands through bulk copies, which this schedule for {target} has not",
    "roles": "this schedule for {target} gives all warps the same work",
    "via": "this schedule for {target} reaches global memory by cp.async and accesses of up to 16 bytes",
    "layout": "layouts follow from the products and the widest accesses",
    "stages": "no loop of this kernel brings the operands of a product to shared memory",
    "unroll": "no loop of this kernel can be unrolled",
    "promote": "no loop adds up products of 8-bit floats by warpgroups",
    "raster": "the grid has fewer than two variables: there is nothing to order",
    "persistent": "the kernel has no grid",
}


@dataclass(frozen=True)
class Policy(Mapping[str, object]):
    """Policy words and values. Looking a word up notes that it means something to the kernel at hand.

    `binding` words must be honoured, `demanded` ones are those under `require(...)`; `required`: there is such a line,
    so products may not take a detour.
    """

    words: Mapping[str, object] = field(default_factory=dict)
    binding: frozenset[str] = frozenset()
    demanded: frozenset[str] = frozenset()
    required: bool = False
    spans: Mapping[str, Span] = field(default_factory=dict)
    target: str = ""
    used: set[str] = field(default_factory=set)
    lacks: dict[str, tuple[str, str]] = field(default_factory=dict)  # why a pass could not honour a word, and a hint

    @classmethod
    def of(cls, policy: EffectivePolicy, target: str) -> Policy:
        return cls(policy.words, policy.binding, policy.demanded, policy.required, policy.spans, target)

    def __getitem__(self, word: str) -> object:
        self.used.add(word)
        return self.words[word]

    def __iter__(self) -> Iterator[str]:
        return iter(self.words)

    def __len__(self) -> int:
        return len(self.words)

    def integer(self, word: str, otherwise: int) -> int:
        """The word's value, or the compiler's own choice."""
        value = self.get(word)
        return value if isinstance(value, int) and not isinstance(value, bool) else otherwise

    def give_up(self, words: Iterable[str], why: str, hint: str) -> None:
        """Nobody honours these words after all."""
        for word in words:
            self.used.discard(word)
            self.lacks[word] = why, hint or _hint(word, self.target)

    def replaced(self, word: str, value: object) -> Policy:
        """With the compiler's own value for a word; what is looked up is noted here too."""
        spans = {w: span for w, span in self.spans.items() if w != word}
        return replace(self, words={**self.words, word: value}, spans=spans)

    def drop(
        self,
        word: str,
        why: str,
        hint: str,
        code: str = "policy-refused",
        facts: Mapping[str, object] | None = None,
        vacuous: bool = False,
    ) -> Choice:
        """The line that says the word is not honoured. Raises KernelError where it is binding; where it is `vacuous`,
        only if `require(...)` gives it."""
        asked = f"{word}={_text(self.words[word])}"
        if word in (self.demanded if vacuous else self.binding):
            message = f"`{asked}` cannot be honoured on {self.target}: {why}"
            raise KernelError([Diagnostic(code, message, self.spans.get(word), hint=hint, facts=dict(facts or {}))])
        return Choice(f"policy {asked}", "dropped", why, costs=True)


def dropped(policy: Policy, everywhere: frozenset[str] | set[str]) -> tuple[Choice, ...]:
    """Lines for the words that no pass of this class asked for. Raises KernelError for binding ones that were asked for
    nowhere: `everywhere` are the words used in any class."""
    lines: list[Choice] = []
    for word in (w for w in policy.words if w not in policy.used | LATER):
        usual = _WHY[word].format(target=policy.target), _hint(word, policy.target)
        why, hint = policy.lacks.get(word, usual)
        if word in everywhere:
            lines.append(Choice(f"policy {word}={_text(policy.words[word])}", "dropped", why, costs=True))
        else:
            lines.append(policy.drop(word, why, hint, vacuous=word not in _IMPOSSIBLE))
    return tuple(lines)


def _hint(word: str, target: str) -> str:
    elsewhere = {"cluster": "on(sm_90a, cluster=...)", "roles": "on(sm_90a, roles=...)"}
    there = word in elsewhere and target != "sm_90a"
    return f"write {elsewhere[word]} instead" if there else f"remove `{word}`"


def refuse_unordered(kernel: ir.Kernel, policy: Policy) -> None:
    """Raises KernelError where sums depend on the order in which blocks arrive and `require(deterministic)` holds."""
    if "deterministic" not in policy.words:
        return
    for statement in walk_statements(kernel.body):
        if isinstance(statement, ir.Scatter) and statement.atomic and is_float(statement.value.type.dtype):
            message = "floats are added atomically, in whatever order blocks arrive: the sums are not deterministic"
            hint = "store partial sums to a temporary and add them in a second kernel"
            raise KernelError([Diagnostic("policy-refused", message, statement.origin.span, hint=hint)])


def _text(value: object) -> str:
    return str(value).replace("'", "")
