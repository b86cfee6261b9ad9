"""The lab: Textual screens over the event stream."""
