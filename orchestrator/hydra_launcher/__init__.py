"""A Hydra launcher: ``python app.py -m hydra/launcher=emsweep lr=1,2,3`` with an unchanged application.

The jobs of a multirun become runs of a sweep directory, and get what runs get: warm workers, retries,
resume, ``emsweep status``, ``table`` and ``dashboard``. A job's identity is what its configuration says,
whatever words said it; the same command again, or a wider one, runs only what is missing. A number that the
task returns, or numbers in a mapping, are the run's metrics.

**Job** one call of the task with one configuration. **Content** a job's configuration without Hydra's own
part, references unresolved. **Application** the task, Hydra's state and the jobs' words, pickled for the
workers into ``hydra/application.pickle`` of the sweep directory.
"""
