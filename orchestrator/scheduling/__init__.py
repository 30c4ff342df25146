"""What to do next, decided without a clock, a file or a process. Pure.

scheduler      from events to actions; events what both are
backlog        runs waiting for a worker; workload a manifest as the scheduler sees it
fleet          the workers that live or start; dispatcher which of them gets which runs
leases         runs that are out, with their fencing tokens
retry          failure classes and what to do about each; passing_errors the exceptions worth a second try
model_health   the canary and the breaker
config         every threshold, with its reason
simulate       the same scheduler against a cluster that does not exist (cluster_model)
"""
