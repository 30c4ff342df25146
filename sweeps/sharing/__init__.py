"""Work that several runs have in common, and which runs therefore travel together. Pure.

schedules      learning rates step by step: runs share a step only while theirs are equal
stages         the tree of training stretches, rollouts and evaluations of a set of runs
share_groups   the same from a manifest's columns, without building a specification
packs          which runs are trained in one forward, and why others are not
batches        which runs one worker should get at once
"""
