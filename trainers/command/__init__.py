"""A command as a run: ``trainer.command: [python, train.py, --lr, "{optim.lr}", --seed, "{seed}"]``.

A whole sweep, which ``emsweep launch sweep=sweep.yaml --allow-target train.py`` runs::

    # @package _global_
    defaults: [{override /trainer: command}, {override /example: text}, {override /eval: none}]
    trainer:
      command: [python, train.py, --lr, "{optim.lr}", --seed, "{seed}"]
      patterns: {loss: "loss ([0-9.e-]+)"}
    sweep:
      axes: {optim.lr: [1e-3, 1e-2], seed: range(3)}

*Where it runs.* In a new folder of its own for each attempt, ``work/<run_id>/attempt_<n>`` of the sweep
directory, which is ``{output_dir}``. What it leaves there is kept, for nobody else knows what of it matters;
an empty folder goes. The script is found beside the sweep file, then in the current folder; ``python`` is the
worker's own interpreter. Script and files that words name by ``{folder}/`` are hashed into what the run is.

*What it says.* Metrics come from what it reports (``from emsweep import report``, or JSON lines into
``$EMSWEEP_REPORT/rows``), prints (``trainer.patterns``) or writes (``trainer.metrics_from``); the last value
of each is the run's. One that says nothing where nothing was asked for has its seconds, ``wall_s``, alone.
Its output goes to ``logs/<run_id>/attempt_<n>.log``, both ends of it if it is long. An exit status other than
0 fails the attempt with the last lines of its standard error.

*How it ends.* With all that it started: at the end of the attempt, at a cancel, at a timeout, and when the
worker is killed (:mod:`trainers.command.shepherd`).

trainer        the class that runs them
attempt        one command: its folder, words, environment, output and end
metrics        what was measured, from all sources, as it comes
printed        patterns in what it prints; json_files, tracker_files what it writes, protobuf how it is read
output         what it prints, as it is kept
process        the worker's side of the shepherd; shepherd starts commands and ends all that they leave
"""

from trainers.command.trainer import Command

__all__ = ["Command"]
