"""What a sweep will cost before it starts. Pure.

work_count       how much is computed, with and without sharing
throughput       seconds a unit of work takes, measured or guessed
cost             seconds, GPU-hours, money, disk
schedule_curves  the learning rates that a sweep asks for, as numbers and as a line of text
"""
