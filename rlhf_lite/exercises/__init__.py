"""Exercises of the course: `check` an answer, ask for a `hint`, see your `progress`, `setup` a notebook."""

from rlhf_lite.exercises.checking import check, hint, progress
from rlhf_lite.exercises.lesson import setup

__all__ = ["check", "hint", "progress", "setup"]
