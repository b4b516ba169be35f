"""Files of ONNX, and what ONNX Runtime says of them."""
