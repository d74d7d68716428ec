"""Level two: the schedule of one kernel for one target, as a text that is printed, read, changed and parsed back."""

from kernelagent.dsl.level2.module import ScheduledModule, read_module, target_of
from kernelagent.dsl.level2.normal import normal_form, same_schedule, without_origins
from kernelagent.dsl.level2.parse_schedule import is_level_two, parse_schedule
from kernelagent.dsl.level2.print_schedule import print_schedule
from kernelagent.dsl.level2.spec import verify

__all__ = [
    "ScheduledModule", "is_level_two", "normal_form", "parse_schedule", "print_schedule", "read_module",
    "same_schedule", "target_of", "verify", "without_origins",
]  # fmt: skip
