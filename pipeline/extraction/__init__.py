"""One pass of a model over the samples: plan, decode, forward, write, resume."""
