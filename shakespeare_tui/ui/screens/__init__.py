"""The five places of the lab, one module and one stylesheet each."""
