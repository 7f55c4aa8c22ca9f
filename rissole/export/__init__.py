"""A bundle as files that need no server to paint: ONNX graphs and a page."""
