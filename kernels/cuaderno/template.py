"""One hand for every chart: the plotly templates `cuaderno` (light) and `cuaderno-dark`.

The palette is Okabe and Ito's, which readers with any of the common colour deficiencies can tell
apart (Okabe & Ito 2008, "Color Universal Design"). Colour never speaks alone: label series at
their ends, and states in words.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import plotly.graph_objects

Theme = Literal["light", "dark"]

BLUE, VERMILLION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
ORANGE, SKY, YELLOW, GREY = "#E69F00", "#56B4E9", "#F0E442", "#7A7A7A"
# Strongest contrast first. Yellow is last on white, blue is last on near-black.
PALETTE: dict[Theme, list[str]] = {
    "light": [BLUE, VERMILLION, GREEN, PURPLE, ORANGE, SKY, GREY, YELLOW],
    "dark": [SKY, ORANGE, GREEN, PURPLE, VERMILLION, YELLOW, GREY, BLUE],
}
STATE_COLOURS = {
    "queued": ORANGE,
    "running": BLUE,
    "succeeded": GREEN,
    "failed": VERMILLION,
    "cancelled": GREY,
}
FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif'
INK: dict[Theme, dict[str, str]] = {
    "light": {"text": "#1F2328", "grid": "#E4E7EB", "line": "#9AA1A9", "paper": "#FFFFFF"},
    "dark": {"text": "#E6E8EB", "grid": "#30353B", "line": "#6B737C", "paper": "#16191D"},
}


def use_template(theme: Theme = "light") -> None:
    """Draw every plotly figure made from here on with the platform's template."""
    import plotly.io

    for name, variant in (("cuaderno", "light"), ("cuaderno-dark", "dark")):
        plotly.io.templates[name] = template(variant)  # type: ignore[arg-type]
    plotly.io.templates.default = "cuaderno" if theme == "light" else "cuaderno-dark"


def template(theme: Theme) -> plotly.graph_objects.layout.Template:
    """The template itself, for a figure of its own."""
    import plotly.graph_objects as go

    ink = INK[theme]
    axis: dict[str, Any] = {
        "gridcolor": ink["grid"],
        "linecolor": ink["line"],
        "zerolinecolor": ink["grid"],
        "ticks": "outside",
        "tickcolor": ink["line"],
        "ticklen": 4,
        "automargin": True,
        "title": {"standoff": 8},
    }
    return go.layout.Template(
        layout={
            "colorway": PALETTE[theme],
            "colorscale": {"sequential": "Viridis", "diverging": "RdBu"},
            "font": {"family": FONT, "size": 14, "color": ink["text"]},
            "title": {"x": 0, "xref": "paper", "xanchor": "left", "font": {"size": 16}},
            "paper_bgcolor": ink["paper"],
            "plot_bgcolor": ink["paper"],
            "margin": {"l": 64, "r": 24, "t": 64, "b": 56},
            "hovermode": "closest",
            "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
            "xaxis": {**axis, "showline": True},
            "yaxis": axis,
        },
        data={"bar": [go.Bar(marker={"line": {"width": 0}})]},
    )
