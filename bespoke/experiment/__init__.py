"""What is to be run: experiment files, the trainer's options, prompts, the rendered TOMLs."""
