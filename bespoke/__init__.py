"""A thin wrapper around kohya's sd-scripts for training LoRAs one named experiment at a time."""

__version__ = "0.1.0"
