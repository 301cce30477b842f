"""A drawn sample collection and a fake trainer: the whole pipeline with no GPU, no download."""
