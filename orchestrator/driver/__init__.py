"""The driver: carries out what the scheduler decides, and makes it durable before it counts.

driver         the loop between pool, scheduler and record
session        a sweep directory held for writing, from launch to the last table
commit_log     the one writer of a directory: journal, SQLite, Parquet
retention      which weights stay
provenance     what was asked, with versions and host, as ``sweep.yaml`` says it
driver_log     ``logs/driver-<epoch>.log``: what was decided, a line each
status_writer  ``status.json`` and the progress line (terminal, eta)
run_summary    how a driver's life ended; signals that end it early
"""
