"""The channel by which a trainer tells what it measures while it trains, and hears whether to go on.

decision  what it hears: :class:`Decision`
rows      what may be told: a step and its metrics
channel   from a script to the worker that started it: the worker's side
script    the script's side
current   :func:`report`: whatever process it is called in

One function for all: ``context.report(step, loss=0.5)`` in a trainer, ``from emsweep import report`` in a
script, a function or a Hydra application. Outside a sweep it does nothing. Standard library only.
"""

from trainers.reporting.current import report, reporting_to
from trainers.reporting.decision import GO_ON, Decision, Report, report_nothing

__all__ = ["GO_ON", "Decision", "Report", "report", "report_nothing", "reporting_to"]
