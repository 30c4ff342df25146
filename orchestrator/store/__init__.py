"""The durable record of a sweep: spools, the driver's journal, the SQLite index and Parquet for analysis.

Read :mod:`orchestrator.store.layout` first: its docstring is the on-disk format.
"""
