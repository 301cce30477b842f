"""Pictures and captions: checks, and what the trainer will see of them."""
