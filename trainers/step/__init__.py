"""One optimizer step: rollouts, what they are worth, the loss, the update.

rollout       completions drawn from the model for the step's prompts
rewards       what each completion is worth; scoring and reference its log-probabilities
experience    rollouts with all that the loss needs of them
batch         from distinct rollouts to the micro batches of one rank; masks, forward
update        forward, backward and one step of the optimizer
step0_cache   step 0, computed once for all runs that agree on it
group_steps   the steps of runs that are trained together; probing tries rates for them
run_recorder  what a run leaves behind: metrics, steps, rollouts
logit_stats   moments of the raw logits before and after training
compat        defects of the published trainer, on request
"""
