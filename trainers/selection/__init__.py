"""Which problems of a pool are worth training on, measured on a model.

pool_scorer   what the rules of :mod:`sweeps.spec.selection_rules` need to know of each problem
select        from a pool to the problems that a rule picks
"""
