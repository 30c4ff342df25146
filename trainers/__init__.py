"""How one run runs: rollout, objective, optimizer step, evaluation.

Glossary
--------
Trainer      turns a :class:`~sweeps.spec.RunSpec` into a :class:`~trainers.protocol.RunResult`; anyone's
             own may stand in.
Rollout      a completion sampled from the model for the run's prompt.
Objective    the function of logits and rollouts that an optimizer step lowers.
Engine       a DeepSpeed engine with its optimizer, kept hot and reset in place between runs.
Layout       how a run was computed (world size, ZeRO stage, micro batch, threads): same layout, same bits.

Torch, transformers and DeepSpeed are imported only in this package, and only by the modules that need them.
"""
