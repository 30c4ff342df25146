"""Packs: many runs of one architecture in one forward, one backward pass and one optimizer step.

architecture  what a stack knows of a transformer, and where its weights lie
tokens        members' rows laid end to end; layers a transformer's parts over them; projection their products
              with matrices; forward the whole of it
stack         the members' weights; adapters low-rank additions to weights that members share
optimizer     AdamW over them, member by member; engine DeepSpeed around both
rollouts      one walk over the trees of all members; evaluation a benchmark by one member, of whose weights
              matrices are read
experience    what a member trains on, given of its completions that are not drawn; loss what its tokens lose;
              gradients of all members by that
trial         what is tried out before a pack is used; pool the packs that a worker keeps, warm all it keeps
members       who is in a slot; gathering what their next steps train on; pack one from its base model to its
              verdicts; trainer which runs go into one
"""
