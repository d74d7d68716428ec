"""What was learned: techniques as they were curated, trials as they happened, and what follows from both."""

from kernelagent.knowledge_base.base import KnowledgeBase
from kernelagent.knowledge_base.catalogue import curated as techniques
from kernelagent.knowledge_base.catalogue import load_file, load_folder
from kernelagent.knowledge_base.errors import (
    BaseCorrupt,
    BaseLocked,
    BaseNewer,
    BaseReadOnly,
    KnowledgeBaseError,
    TechniqueError,
)
from kernelagent.knowledge_base.learning import State, gains, move_key, retrieve, similarity
from kernelagent.knowledge_base.records import (
    Gain,
    Lead,
    Move,
    Step,
    Suggestion,
    Technique,
    Trial,
    identified,
    trial_id,
)
from kernelagent.knowledge_base.transfer import best_known, steps_of

__all__ = [
    "BaseCorrupt",
    "BaseLocked",
    "BaseNewer",
    "BaseReadOnly",
    "Gain",
    "KnowledgeBase",
    "KnowledgeBaseError",
    "Lead",
    "Move",
    "State",
    "Step",
    "Suggestion",
    "Technique",
    "TechniqueError",
    "Trial",
    "best_known",
    "gains",
    "identified",
    "load_file",
    "load_folder",
    "move_key",
    "retrieve",
    "similarity",
    "steps_of",
    "techniques",
    "trial_id",
]
