"""Graphs of ONNX, run by ONNX Runtime."""
