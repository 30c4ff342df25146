"""When a question to a sweep is settled, so that its remaining seeds need not be run. Pure.

evidence      e-values and confidence sequences for the mean of a cell's seeds, in logs
multiplicity  which of many cells may be claimed at once, at a false discovery or family-wise error rate
race          the state machine: observations in, verdicts out
"""
