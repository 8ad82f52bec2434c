"""An executed notebook as one HTML page that loads nothing from any network.

nbconvert's `lab` template without what it would fetch (require.js, MathJax, mermaid, the widgets'
manager). A plotly figure is drawn by the page itself: plotly.js, from the installed package, stands
once in a page that needs it. A widget is shown by its text, formulas by their source.
"""

from __future__ import annotations

import copy
import importlib.util
import json
import re
from pathlib import Path
from typing import Any

PLOTLY = "application/vnd.plotly.v1+json"
TEMPLATES = Path(__file__).parent / "templates"
# Mime types that need a front end of their own; the text beside them is shown instead.
FRONT_ENDS = ("application/vnd.jupyter.widget-view+json",)


def render(notebook: Any, title: str) -> bytes:
    """The page of `notebook` (nbformat 4), which is left as it is."""
    from nbconvert import HTMLExporter

    shown = copy.deepcopy(notebook)
    shown.metadata["title"] = title
    shown.metadata.pop("widgets", None)
    figures = 0
    for cell in shown.cells:
        for output in cell.get("outputs", ()):
            data = output.get("data")
            if not data:
                continue
            for name in FRONT_ENDS:
                data.pop(name, None)
            if PLOTLY in data:
                figures += 1
                figure = data.pop(PLOTLY)
                data.clear()
                data["text/html"] = _drawing(figure, f"figure-{figures}")
    exporter = HTMLExporter(
        template_name="run", extra_template_basedirs=[str(TEMPLATES)], embed_images=False
    )
    html, _ = exporter.from_notebook_node(shown)
    if figures:
        script = f'<script type="text/javascript">{_plotly_js()}</script>'
        html = html.replace("</head>", f"{script}</head>", 1)
    return html.encode("utf-8", "replace")


def _drawing(figure: dict[str, Any], element: str) -> str:
    parts = [
        _json(figure.get("data", [])),
        _json(figure.get("layout", {})),
        _json({"responsive": True, **figure.get("config", {})}),
    ]
    height = figure.get("layout", {}).get("height") or 450
    height = int(height) if isinstance(height, int | float) else 450
    return (
        f'<div id="{element}" class="plotly-graph-div" style="min-height:{height}px"></div>'
        f'<script type="text/javascript">Plotly.newPlot("{element}",{",".join(parts)});</script>'
    )


def _json(value: Any) -> str:
    """JSON that can stand in a script element."""
    text = json.dumps(value)
    return re.sub(r"[<>&\u2028\u2029]", lambda m: f"\\u{ord(m[0]):04x}", text)


def _plotly_js() -> str:
    # Found, not imported: the package itself costs a second.
    spec = importlib.util.find_spec("plotly")
    folders = spec.submodule_search_locations if spec else None
    if not folders:
        return ""
    script = (Path(folders[0]) / "package_data" / "plotly.min.js").read_text(encoding="utf-8")
    return script.replace("</script", "<\\/script")
