"""Problems with verifiable answers: one object per benchmark or training task. Imports no torch."""

from cameleer.tasks.registry import TASKS, SealedReader, find_task
from cameleer.tasks.task import Split, Task, TaskRole

__all__ = ["TASKS", "SealedReader", "Split", "Task", "TaskRole", "find_task"]
