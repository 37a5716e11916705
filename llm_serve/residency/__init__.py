"""Who may be resident: a pure scheduler. `DESIGN.md` states its rules. It imports the standard
library and `llm_serve.status`, nothing else."""

from llm_serve.residency.plan.policy import Knobs, Strategy, Turns
from llm_serve.residency.scheduler import Scheduler
from llm_serve.residency.state import Measurement, ModelSpec

__all__ = ["Knobs", "Measurement", "ModelSpec", "Scheduler", "Strategy", "Turns"]
