"""Text in axes whose units are points: how much room there is, and how wide it is."""

from skfeat.inspection._common import style

_SHORTEST = 3  # letters that are left of a name, before the ellipsis


def room_of(ax):
    """Return width and height of the axes in points, once the layout has settled."""
    figure = ax.get_figure(root=True)
    figure.draw_without_rendering()
    box = ax.get_window_extent()
    return box.width * 72 / figure.dpi, box.height * 72 / figure.dpi


def text_width(ax, text, font, text_kw=None):
    """Return the width of a text in points."""
    artist = put_text(ax, 0, 0, text, font, "black", text_kw=text_kw)
    width = artist.get_window_extent().width
    artist.remove()
    return width * 72 / ax.get_figure(root=True).dpi


def put_text(ax, x, y, text, font, color, va="center_baseline", text_kw=None):
    """Write a text at a place, centred."""
    # A name is no formula, and takes no room from the axes.
    options = {"fontsize": font, "color": color, "zorder": 4, "parse_math": False}
    options |= {"horizontalalignment": "center", "verticalalignment": va}
    artist = ax.text(x, y, text, **style(options, text_kw))
    artist.set_in_layout(False)
    return artist


def shortened(ax, name, font, widest):
    """Cut the first line to what is at most `widest` wide; return the width too."""
    first, *others = name.split("\n", 1)
    text, n_letters = name, len(first)
    while (width := text_width(ax, text, font)) > widest and n_letters > _SHORTEST:
        guess = int(n_letters * widest / width)
        n_letters = max(_SHORTEST, min(n_letters - 1, guess))
        text = "\n".join([first[:n_letters].rstrip() + "…", *others])
    return text, width


def readable_on(face):
    """Return a colour of text that can be read on a colour."""
    return "white" if face[:3] @ (0.3, 0.59, 0.11) < 0.5 else "black"
