"""Plain Python, NumPy and YAML: everything that needs neither torch nor a terminal."""
