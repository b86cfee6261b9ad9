"""How fast this is, beside a plain loop and other programs, on the machine at hand."""
