"""A checkpoint to pictures, to metrics, to scores, to the gate's decision."""
