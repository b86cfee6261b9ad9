"""Several runs, one question: experiment files, their runs, and the table of what came out."""
