"""What the machine and its system offer: cores, memory limits, caches, versions."""
