"""What a model is worth on a benchmark.

evaluate     answers to every item, greedy and sampled, and their verdicts
grading      whether an answer equals the gold, in processes with a time limit
eval_cache   evaluations kept warm: a base model is judged once
"""
