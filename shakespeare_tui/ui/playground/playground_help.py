"""What the Playground's help says."""

HELP = """\
One prompt, continued by up to six strategies from the same seed, so that the differences come
from the strategies alone. g generates all columns, x stops, n takes the next seed.

A strategy is a line of steps, applied from left to right: temperature=0.8 top_k=20. e edits the
current column's strategy; the line below the columns explains the step under the cursor, and h
lists all steps. k loads the six classic strategies, t sweeps the temperature from 0.3 to 1.5, a
adds a column, d removes one, and the arrows move between columns. u undoes k, t, a and d, texts
included. Seed and length at the top are dim until texts have been generated with them.

In the prompt, \\n is a new line; up recalls earlier prompts. Below each text are its measures; a
star marks the best column (none for a tie, or for a text caught in a loop). Underlined passages
of 20 characters or more occur word for word in the training text.

s shows surprise: every character of the current text is shaded by its probability, and the panel
shows what the model expected at the cursor, before and after each step. v or a paste does the
same for a text of your own. + and - change the selected step, [ and ] select another, c applies
the changed strategy to the column. Enter opens the candidates: enter or a number takes one and
continues from there as a branch; b walks the tree of branches. m jumps to the next passage copied
from the training text. a shows which earlier characters the model attended to: [ and ] choose the
layer, + and - the head, w goes back.

o exports columns or branches as text, Markdown or JSON, y copies the current text, f generates a
batch of speakers into one file.
"""
