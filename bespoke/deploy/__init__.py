"""The zip, the pod, the container."""
