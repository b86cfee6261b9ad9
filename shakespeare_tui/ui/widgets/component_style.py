"""The style of a part of a widget that draws its own cells."""

from rich.style import Style
from textual.widget import Widget


def part_style(widget: Widget, name: str) -> Style:
    """A component class as a Rich style, see-through colours laid on the widget's background."""
    styles = widget.get_component_styles(name)
    _, background = widget.background_colors
    color = background + styles.color if not styles.auto_color else widget.colors[3]
    return styles.text_style + Style(color=color.rich_color)
