"""Where work executes, behind one protocol (:mod:`orchestrator.pools.base`).

inline     in the driver's own process, one run at a time: tests, debugging, notebooks.
local      worker processes on this machine, without Ray.
lasting    the same, kept warm for several drivers, one after the other.
ray_pool   Ray actors on this machine or a cluster.

gang (what the ranks of a worker tell becomes one story), channel and child (the local pool's messages and its
processes), devices (who uses which GPU), ray_cluster, ray_worker, ray_environment, ray_internals (what is
used of Ray that it does not promise to keep), temp_folders, and marked (processes that end with their
worker or driver) are their parts.
"""
