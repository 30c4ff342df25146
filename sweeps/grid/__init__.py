"""The sweep language: axes, how they combine, and which runs they make. Pure.

sweep_file       the ``sweep:`` node of a file, read into a grid and rules
grid             axes and their combinations as plain values, as a notebook builds them
expand           from a grid to its runs, column by column (columns)
filters          the one grammar for conditions, exclusions and choosing runs
resolve_configs  from axis values to the configuration of each run
interpolation    which references are looked up now and which wait for the run
error_location   where in a sweep file a mistake is
"""
