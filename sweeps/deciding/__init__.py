"""When a question to a sweep is settled, so that its remaining seeds need not be run. Pure.

race          the state machine: observations in, verdicts out, in rounds of seed positions
rules         what a race asks and answers
sides         on which side of zero each of many members lies
best          which of many members is best
evidence      e-processes about means, in logs
intervals     the confidence sequences that invert them
multiplicity  which of many claims may be made at once, at a false discovery or family-wise error rate
"""
