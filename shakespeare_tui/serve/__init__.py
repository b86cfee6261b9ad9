"""The server: what it is asked, in turns, and what it answers over HTTP."""
