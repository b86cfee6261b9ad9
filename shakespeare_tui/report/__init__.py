"""One experiment, or several runs, as a report to read: a page, pictures, and a text."""
