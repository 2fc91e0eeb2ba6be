"""Count words: the slow part, for a worker."""

import json
import os
from collections import Counter
from pathlib import Path

from alligator import current_task

DATA = Path(os.environ.get("DATA", "data"))
"""The folder of texts and their counts."""


def count_words(text_name: str) -> None:
    """Count the words of a text, and store the result under the id of the task."""
    task = current_task()
    words = (DATA / text_name).read_text("utf-8").lower().split()
    if task is not None:
        result_file(task.task_id).write_text(json.dumps(Counter(words)), "utf-8")


def result_file(task_id: str) -> Path:
    """Return the path of a task's result."""
    return DATA / f"{task_id}.json"
