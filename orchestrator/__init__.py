"""Where and when runs run, and the durable record of what came of them.

Glossary
--------
Attempt    one try at a run, with a fencing token.
Pool       where work executes: inline, local processes, or Ray.
Gang       the worker processes that form one DeepSpeed world.
Spool      a worker's append-only result file, the truth about what was computed.
Journal    the driver's own spool: leases granted, results accepted, cancels, quarantines.
Sweep directory   all of a sweep's state on disk (:mod:`orchestrator.store.layout`).
"""
