"""Where work executes, behind one protocol (:mod:`orchestrator.pools.base`).

inline     in the driver's own process, one run at a time: tests, debugging, notebooks.
local      worker processes on this machine, without Ray.
ray_pool   Ray actors on this machine or a cluster.
"""
