"""What a launch would do, before anything starts.

plan       runs, cost and reasons of a sweep, as one value; make_plan finds it against what a directory holds
estimates  seconds a unit of work takes, from runs measured here or guessed
cluster    the machines that a sweep asks for
"""
