"""What a newcomer does: sign in, edit together, run a job, see it in MLflow and on a dashboard."""

from __future__ import annotations

import nbformat
import pytest
from playwright.sync_api import expect

from tests.platform import wait_for

FIGURE = """\
import plotly.express as px
px.scatter(x=[1, 2, 3], y=[2, 1, 3], title="Three points")
"""
WIDGET = """\
import ipywidgets
ipywidgets.IntSlider(value=7, description="depth")
"""


@pytest.fixture(scope="module")
def figures(platform) -> str:
    """A notebook in the project's tree with a sum, a plotly figure and a widget."""
    path = "notebooks/figures.ipynb"
    cells = [nbformat.v4.new_code_cell(s) for s in ("print(6 * 7)", FIGURE, WIDGET)]
    notebook = nbformat.v4.new_notebook(cells=cells)
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python (CPU)"}
    nbformat.write(notebook, platform.data_dir / "projects" / "demo" / "repo" / path)
    return path


def test_a_cell_runs_and_figures_and_widgets_draw_in_lab(visitor, figures):
    ana = visitor("ana", "editor")
    ana.open_lab(figures)
    page = ana.page
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Run All Cells", exact=True).click()
    panel = page.locator(".jp-NotebookPanel:visible")
    expect(panel.get_by_text("42", exact=True)).to_be_visible(timeout=90_000)
    expect(panel.locator(".js-plotly-plot .main-svg").first).to_be_visible(timeout=60_000)
    expect(panel.locator(".gtitle")).to_have_text("Three points")
    expect(panel.locator(".widget-slider, .jupyter-widget-slider").first).to_be_visible()
    expect(panel.locator(".widget-label").filter(has_text="depth")).to_be_visible()
    assert not ana.elsewhere, ana.elsewhere


def test_two_people_see_each_other_in_one_notebook(visitor, platform):
    path = "notebooks/together.ipynb"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("")])
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python (CPU)"}
    file = platform.data_dir / "projects" / "demo" / "repo" / path
    nbformat.write(notebook, file)
    ana, bob = visitor("ana", "editor"), visitor("bob", "editor")
    ana.open_lab(path)
    bob.open_lab(path)
    mine = ana.page.locator(".jp-NotebookPanel:visible .jp-Cell .cm-content").first
    theirs = bob.page.locator(".jp-NotebookPanel:visible .jp-Cell .cm-content").first
    mine.click()
    ana.page.keyboard.type("written_by_ana = 1")
    expect(theirs).to_contain_text("written_by_ana = 1")
    theirs.click()
    bob.page.keyboard.press("End")
    bob.page.keyboard.type(" + 1")
    expect(mine).to_contain_text("written_by_ana = 1 + 1")
    # Each sees the other's cursor, and it says whose it is.
    expect(ana.page.locator(".cm-ySelectionCaret, .jp-remote-cursor").first).to_be_attached()
    expect(bob.page.locator(".cm-ySelectionCaret, .jp-remote-cursor").first).to_be_attached()
    assert "bob" in ana.page.content() and "ana" in bob.page.content()
    wait_for("the edit on disk", lambda: "written_by_ana = 1 + 1" in file.read_text(), 20)


def test_a_job_from_the_portal_appears_in_mlflow_and_on_the_dashboard(visitor, platform):
    ana = visitor("ana", "editor")
    page = ana.page
    page.goto(f"{platform.url}/services/cuaderno/projects/demo")
    page.get_by_role("link", name="Run as job: notebooks/train_classifier.ipynb").click()
    page.get_by_label("max_depth").fill("two")
    page.get_by_role("button", name="Run", exact=False).first.click()
    expect(page.get_by_role("alert")).to_be_visible()
    page.get_by_label("max_depth").fill("2")
    page.get_by_role("button", name="Run", exact=False).first.click()
    page.wait_for_url("**/services/cuaderno/runs/*")
    run = page.url.rsplit("/", 1)[1].split("?")[0]
    expect(page.locator("main")).to_contain_text("succeeded", timeout=150_000)
    expect(page.get_by_text("roc_auc", exact=True)).to_be_visible()
    frame = page.frame_locator("iframe")
    expect(frame.locator(".js-plotly-plot .main-svg").first).to_be_visible(timeout=60_000)

    link = page.get_by_role("link", name="MLflow").first
    tracked = platform.operator.get(f"runs/{run}/metrics").json()["items"][0]
    link.click()
    page.wait_for_url("**/services/mlflow/**")
    expect(page.get_by_text(tracked["name"]).first).to_be_visible(timeout=60_000)
    expect(page.get_by_text("roc_auc", exact=True).first).to_be_visible(timeout=30_000)

    page.goto(f"{platform.url}/services/cuaderno/dashboards")
    page.get_by_role("link", name="Training overview").first.click()
    expect(page.locator(".js-plotly-plot .main-svg").first).to_be_visible(timeout=120_000)
    expect(page.locator(f'a[href*="{run}"]').first).to_be_attached(timeout=30_000)
    assert not ana.elsewhere, ana.elsewhere
    assert not ana.errors, ana.errors


def test_an_outsider_sees_an_empty_home_and_no_project(visitor, platform):
    platform.person("nadia")
    nadia = visitor("nadia")
    expect(nadia.page.get_by_text("You are in none yet")).to_be_visible()
    answer = nadia.page.goto(f"{platform.url}/services/cuaderno/projects/demo")
    assert answer and answer.status == 404
    expect(nadia.page.get_by_role("heading").first).to_be_visible()


def test_signing_up_waits_for_an_administrator(browser, platform, visitor):
    context = browser.new_context()
    page = context.new_page()
    page.goto(f"{platform.url}/hub/login")
    page.get_by_role("link", name="Ask for one").click()
    page.get_by_label("Name").fill("sofia")
    page.get_by_label("Password").fill("correct horse battery 9")
    page.get_by_role("button", name="Ask for an account").click()
    expect(page.get_by_text("sofia").first).to_be_visible()
    context.close()

    name, password = platform.first_login()
    admin = visitor(name, password=password)
    admin.page.get_by_role("link", name="Admin").click()
    row = admin.page.get_by_role("row").or_(admin.page.get_by_role("listitem"))
    row.filter(has_text="sofia").get_by_role("button", name="Approve").first.click()
    expect(admin.page.get_by_role("status").first).to_be_visible()
    visitor("sofia")


def test_signing_out_ends_the_session(visitor, platform):
    ana = visitor("ana", "editor")
    page = ana.page
    page.locator("summary").first.click()
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/hub/**")
    page.goto(f"{platform.url}/services/cuaderno/")
    expect(page.get_by_label("Password")).to_be_visible()
