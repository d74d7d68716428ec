"""A level-two text with the level-one text that says what it should compute."""

from __future__ import annotations

from dataclasses import replace

from kernelagent.dsl import ir
from kernelagent.dsl.check_schedule import check_parameters, fixed_dims, pairs
from kernelagent.dsl.level2.module import ScheduledModule
from kernelagent.dsl.targets.calls import Choices, concrete_calls
from kernelagent.dsl.verify.schedule.cases import Case


def against(case: Case, module: ScheduledModule, oracle: ir.Module, choices: Choices) -> Case:
    """The case with the sizes and values of the other text. Raises KernelError where parameters differ."""
    check_parameters(module, oracle)
    dtypes = {a.dtype: b.dtype for a, b in pairs(module, oracle) if a.dtype in oracle.entry.dtype_variables}
    chosen = Choices({**choices.dtypes, **dtypes}, choices.tunables, choices.consts, fixed_dims(module, oracle))
    items = concrete_calls(oracle, chosen, module.schedule.target)
    kernel = next((i.kernel for i in items if i.kernel.name == module.schedule.name), items[0].kernel)
    alone = ir.Module(oracle.text, oracle.edition, (kernel,), ())
    return replace(case, shapes=alone, oracle=alone)


__all__ = ["against"]
