"""A drawn sample collection and a stand-in trainer: the whole pipeline with no GPU, no download."""
