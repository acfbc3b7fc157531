"""Vector instructions for compiled loops: the only room that imports llvmlite."""
