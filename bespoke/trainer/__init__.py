"""All that knows sd-scripts: command, process, log, checkpoints, resume, fit to the GPU."""
