"""What it means: run tables in pandas, statistics that tell luck from effect, figures and reports.

Start with ``from analysis import open_sweep; sweep = open_sweep("outputs/quickstart")``.
"""
