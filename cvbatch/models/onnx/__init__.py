"""What an ONNX file is: its shapes, what its exporter wrote into it, and what it needs to be told."""
