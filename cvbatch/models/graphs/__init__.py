"""What a graph of any framework is: its shapes, what its exporter said of it, and what it needs to be told."""
