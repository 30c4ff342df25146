"""The name under which scripts outside know the grader."""

from trainers.evaluation.grading import Grader, Verdict

__all__ = ["Grader", "Verdict"]
