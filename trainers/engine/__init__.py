"""DeepSpeed: engines kept hot, reset in place between runs, and the processes that form one world.

engine         one DeepSpeed engine with its optimizer; setup its configuration; pool the ones a worker keeps
optimizers     those DeepSpeed is given; optimizer_state what they keep, copied and put back; state that and
               the weights; clipping of gradients where DeepSpeed does none
gang           the worker processes of one DeepSpeed world
checkpoint     weights and training states on disk
freezing       which parameters train; half_finetuning a fresh random half each round
process_state  the functions and switches of torch, put back before every run
run_layout     how a run was computed: same layout, same bits
"""
