"""Vector instructions for compiled loops: the only package that imports llvmlite."""
