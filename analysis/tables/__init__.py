"""Tables that answer a question, each with its footnotes.

seed_values   one value per group of cells and seed: what all averages rest on
item_means    verdicts per item over seeds: what intervals over items rest on
cell_table    every cell with its seeds, and what a launch ends with
best_cells    the best cells, and what their lead is worth
compare       is B better than A (matching: pairs of runs that agree)
importance    which axis matters
agreement     how far two sweeps of the same runs agree
costs         what a sweep cost
"""
