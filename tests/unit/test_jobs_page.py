"""The page of an executed notebook: whole in itself."""

from __future__ import annotations

import re

import nbformat
import pytest

from hub_config.jobs.page import render


@pytest.fixture(scope="module")
def page():
    v4 = nbformat.v4
    plotly = {
        "data": [{"y": [1, 2], "name": "</script><script>alert(1)</script>"}],
        "layout": {"height": 300},
    }
    cells = [
        v4.new_markdown_cell("Formula $a^2$"),
        v4.new_code_cell(
            "fig",
            outputs=[
                v4.new_output(
                    "display_data",
                    {
                        "application/vnd.plotly.v1+json": plotly,
                        "text/html": "<script src='https://cdn.plot.ly/x.js'></script>",
                    },
                )
            ],
        ),
        v4.new_code_cell(
            "widget",
            outputs=[
                v4.new_output(
                    "display_data",
                    {
                        "application/vnd.jupyter.widget-view+json": {"model_id": "1"},
                        "text/plain": "IntSlider(value=3)",
                    },
                )
            ],
        ),
        v4.new_code_cell("x", outputs=[v4.new_output("stream", name="stdout", text="a < b\n")]),
    ]
    notebook = v4.new_notebook(cells=cells)
    before = nbformat.writes(notebook)
    html = render(notebook, "<b>title</b>").decode()
    assert nbformat.writes(notebook) == before, "the notebook itself stays as it is"
    return html


def test_nothing_is_fetched(page):
    large = re.compile(r'<script type="text/javascript">.{1000000,}?</script>', re.DOTALL)
    without_plotly = large.sub("", page, count=1)
    assert len(without_plotly) < len(page) - 1_000_000
    found = re.findall(r"""(?:src|href)=["']?(?:https?:)?//[^"'\s>]+""", without_plotly)
    assert found == []
    assert "import(" not in without_plotly and "@import" not in without_plotly


def test_a_plotly_figure_is_drawn_by_the_page(page):
    assert 'Plotly.newPlot("figure-1",[{"y": [1, 2]' in page
    assert "min-height:300px" in page
    assert "<script>alert(1)" not in page
    assert page.index("plotly.js v") < page.index("Plotly.newPlot(")


def test_text_stands_in_for_widgets_and_is_escaped(page):
    assert "IntSlider(value=3)" in page
    assert "a &lt; b" in page
    assert "<title>&lt;b&gt;title&lt;/b&gt;</title>" in page


def test_a_page_without_figures_is_small():
    assert len(render(nbformat.v4.new_notebook(), "t")) < 700_000
