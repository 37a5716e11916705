"""The transformers backend: any causal language model, many sequences per step, on any device.

    backend       the `Backend`: what the rest of the server sees
    engine        the loop: one thread that plans, computes, samples and hands over, step by step
    step_planner  which sequences compute how many tokens in the next step (pure)
    pages         which pages of the KV cache belong to whom, and what can be used again (pure)
    step          from a plan to one forward pass over the tokens of all sequences in a row
    attention     what such a pass attends to
    kv_memory     what a model's layers keep of each token, and the memory for it
    sampler       from logits to tokens, for each sequence on its own terms
    guides        what answers are held to: JSON, schemas, expressions, grammars
    checkpoint    from a folder of weights to a model, or a sentence that says why not
    projections   linear layers made ready for steps of few tokens
    private what is used of torch that torch does not promise to keep

Importing the package brings no torch: the modules that need it are imported by the thread that
loads, because that takes seconds.
"""
