"""Machine and operating system: cores, memory limits, caches, streams, versions."""
