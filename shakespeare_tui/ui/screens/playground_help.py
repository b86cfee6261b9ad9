"""What the Playground's help says."""

HELP = """\
One prompt, continued by up to six strategies from the same seed: what differs comes from the
strategy. g writes all columns, x stops them, n takes the next seed.

A strategy is a line of steps, applied from left to right: temperature=0.8 top_k=20. e edits the
current column's line; what the step under the cursor does stands below the columns, and h lists
all steps. k sets the classic six, t sweeps the temperature from 0.3 to 1.5, a adds a column, d
removes one, and the arrows move between columns where not all of them fit. u brings back the
columns, texts and all, that k, t, a or d replaced or removed. Seed and length on top are dim until
the texts have been written with them.

In the prompt, \\n stands for a new line; up brings back earlier prompts. Below each text are its
measures, the best of all columns with a star (none for a tie, or for a text caught in a loop);
underlined passages of 20 characters or more stand
word for word in the training text.

s reads the current text, v or a paste one of your own: every character is shaded by its
probability, and beside it stands what the model expected under the cursor, before and after each
step. + and - change the step that is marked, [ and ] mark another, c gives the changed strategy to
the column. Enter goes to the candidates: enter or a number takes one and writes a branch from
there; b walks the tree of branches. m goes to the next passage copied from the training text. a
shows which earlier characters the model looked at: [ and ] choose the layer, + and - the head, w
leads back.

o exports columns or branches as text, Markdown or JSON, y copies the current text, f writes many
speakers at once into a file."""
