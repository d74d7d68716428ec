"""Who writes the kernels: a search without a model, a language model, or a recording."""
