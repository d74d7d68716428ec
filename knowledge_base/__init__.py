"""What was learned: techniques as they were curated, trials as they happened, and what follows from both."""

from .base import KnowledgeBase
from .catalogue import curated as techniques
from .catalogue import load_file, load_folder
from .errors import BaseCorrupt, BaseLocked, BaseNewer, BaseReadOnly, KnowledgeBaseError, TechniqueError
from .learning import State, gains, move_key, retrieve, similarity
from .records import Gain, Lead, Move, Step, Suggestion, Technique, Trial, identified, trial_id
from .transfer import best_known, steps_of

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
