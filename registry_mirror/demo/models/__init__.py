"""Tiny ONNX models with real, untrained weights; written by tests/tools/build_demo_models.py."""
