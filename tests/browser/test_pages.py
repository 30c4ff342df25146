from __future__ import annotations

import csv
import io
from xml.etree import ElementTree

import pytest

from analysis import open_sweep
from analysis.tables.cell_table import headline
from analysis.tables.compare import compare
from tests.browser.conftest import SCREENSHOTS, settled, until
from tests.browser.hostile import ROLLOUTS

PAGES = {
    "overview": "/",
    "runs": "/runs?sort=gain_sampled&way=down",
    "groups": "/runs?group=model",
    "cells": "/cells?metric=gain_sampled",
    "compare": "/compare",
    "findings": "/findings",
}


@pytest.mark.parametrize("name", PAGES)
def test_every_page_of_a_real_sweep(open_page, quickstart_url, name):
    page = open_page(color_scheme="dark" if name in ("compare", "groups") else "light")
    settled(page, quickstart_url + PAGES[name])
    page.screenshot(path=SCREENSHOTS / f"quickstart-{name}.png", full_page=True)
    assert page.locator("[role=alert]").count() == 0
    assert "snapshot=" in page.url  # what is copied from the address bar can be cited


@pytest.mark.parametrize("name", PAGES)
def test_every_page_of_a_large_sweep_on_a_phone(open_page, study_url, name):
    page = open_page(width=390, height=844)
    settled(page, study_url + PAGES[name])
    page.screenshot(path=SCREENSHOTS / f"phone-{name}.png")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390  # tables scroll, the page does not
    assert page.locator("nav[aria-label=Pages] a").first.is_visible()


def test_the_overview_says_what_the_command_line_says(open_page, quickstart_url, quickstart):
    page = open_page()
    settled(page, quickstart_url)
    text = page.inner_text("main")
    assert "48 done" in text
    assert "finished" in text
    for line in headline(open_sweep(quickstart)):
        assert " ".join(line.split()) in " ".join(text.split())
    assert "winner's curse" in text
    assert "noise within cells" in text


def test_the_overview_is_there_before_its_analyses(open_page, study_url):
    page = open_page(expect=["htmx:", "ERR_FAILED"])
    page.route("**/panel/**", lambda route: route.abort())
    page.goto(study_url + "/?x=1")
    assert "of 13,440" in page.inner_text(".tiles")


def test_runs_sort_filter_page_and_open(open_page, study_url, study):
    page = open_page()
    settled(page, study_url)
    page.click("nav >> text=Runs")
    page.wait_for_selector("table.runs")
    page.click("#sort-gain_sampled")
    page.wait_for_selector("th[aria-sort=descending] >> text=gain")
    frame = open_sweep(study).runs(["run_id", "gain_sampled"])
    best = frame.sort_values("gain_sampled", ascending=False)["gain_sampled"].iloc[0]
    shown = page.locator("table.runs tbody tr").first.inner_text()
    assert f"{100 * best:+.1f}" in shown
    page.fill("#filter", "optim.lr=1e-4 model=tiny-64 outcome=done")
    page.press("#filter", "Enter")
    expected = len(open_sweep(study).where("optim.lr=1e-4", "model=tiny-64", "outcome=done").runs(["run_id"]))
    until(page, f"document.querySelector('.total')?.textContent.startsWith('{expected:,} run')")
    assert "aria-sort" in page.locator("thead").inner_html()  # the order is kept
    page.click("#page-next")
    page.wait_for_selector("text=Page 2 of")
    page.go_back()
    page.wait_for_selector("text=Page 1 of")
    page.locator("table.runs tbody a").first.click()
    page.wait_for_selector("text=emsweep replay")
    page.screenshot(path=SCREENSHOTS / "study-run.png", full_page=True)


def test_a_mistake_in_the_filter_is_said_in_place(open_page, study_url):
    page = open_page()
    settled(page, study_url + "/runs")
    page.fill("#filter", "modell=tiny-64")
    page.press("#filter", "Enter")
    page.wait_for_selector("[role=alert]")
    assert "did you mean" in page.inner_text("[role=alert]")
    assert page.input_value("#filter") == "modell=tiny-64"
    page.fill("#filter", "model=tiny-64")
    page.press("#filter", "Enter")
    page.wait_for_selector("table.runs")


def test_groups_and_columns_are_picked(open_page, study_url):
    page = open_page()
    settled(page, study_url + "/runs")
    page.click("summary >> text=Columns")
    page.check("input[name=column][value=base_accuracy_sampled]")
    page.wait_for_selector("th[title=base_accuracy_sampled]")
    page.select_option("#group", "model")
    page.wait_for_selector("text=4 groups")
    page.click("thead a >> text=seeds")
    page.wait_for_selector("th[aria-sort]")
    page.locator("tbody a").first.click()
    page.wait_for_selector("table.runs")
    assert "model=" in page.input_value("#filter")


def test_a_tile_leads_to_its_runs(open_page, study_url, study):
    page = open_page()
    settled(page, study_url + "/cells?x=optim.lr&y=model&metric=accuracy_sampled")
    tile = page.locator("svg.figure a[href*='tiny-96'][href*='0.0001']").first
    assert "16 seeds" in tile.locator("title").first.text_content()
    tile.click()
    page.wait_for_selector("table.runs")
    assert page.input_value("#filter") == "model=tiny-96 optim.lr=0.0001"
    assert page.inner_text(".total") == "672 runs"
    page.go_back()
    page.wait_for_selector("svg.figure")
    page.select_option("#y", "example")
    page.wait_for_selector("svg.figure text:text-is('no-carry')")
    page.select_option("[name='at.model']", "tiny-64")
    page.wait_for_url("**at.model=tiny-64**")
    page.wait_for_selector("figcaption >> text=model=tiny-64")
    page.screenshot(path=SCREENSHOTS / "study-cells.png", full_page=True)


def test_a_comparison_says_what_the_command_line_says(open_page, study_url, study):
    page = open_page()
    settled(page, study_url + "/compare")
    page.fill("#a", "optim.lr=1e-4")
    page.fill("#b", "optim.lr=2e-4")
    page.press("#b", "Enter")
    page.wait_for_selector("text=optim.lr=2e-4 minus optim.lr=1e-4")
    [sentence] = compare(open_sweep(study), "optim.lr=1e-4", "optim.lr=2e-4").sentences
    assert sentence in page.inner_text("main")
    page.select_option("#by", "model")
    page.wait_for_selector("text=after Holm over 4")
    page.click("text=swap")
    page.wait_for_selector("text=optim.lr=1e-4 minus optim.lr=2e-4")
    page.screenshot(path=SCREENSHOTS / "study-compare.png", full_page=True)


def test_what_is_saved_is_what_is_shown(open_page, quickstart_url, quickstart):
    page = open_page()
    settled(page, quickstart_url + "/runs?filter=model%3Dtiny-64")
    with page.expect_download() as saving:
        page.click(".take >> text=CSV")
    rows = list(csv.DictReader(io.StringIO(saving.value.path().read_text())))
    assert len(rows) == 24
    settled(page, quickstart_url + "/findings/decoupling")
    with page.expect_download() as saving:
        page.click(".take >> text=SVG")
    assert ElementTree.parse(saving.value.path()).getroot().tag.endswith("svg")
    page.click("summary >> text=Python")
    assert 'find(sweep, "decoupling")' in page.inner_text(".take pre")


def test_hostile_rollouts_are_shown_as_text(open_page, study_url, study):
    page = open_page()
    run_id = open_sweep(study).arrow("SELECT run_id FROM raw_rollouts LIMIT 1")["run_id"][0].as_py()
    settled(page, f"{study_url}/run/{run_id}")
    shown = page.locator("pre.rollout").all_text_contents()
    for text in ROLLOUTS.values():
        assert text.replace("\r\n", "\n") in [shown_text.replace("\r\n", "\n") for shown_text in shown]
    assert page.title() != "owned"
    assert page.locator("h1").count() == 1
    assert page.locator("main img, main script").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280
    page.screenshot(path=SCREENSHOTS / "study-hostile.png", full_page=True)


def test_a_link_to_an_earlier_state_says_so_and_goes_on(open_page, quickstart_url):
    page = open_page()
    settled(page, quickstart_url + "/runs?snapshot=0123456789")
    assert "The sweep has changed since" in page.inner_text("[role=status]")
    page.click("text=Go on with this one")
    until(page, "!document.querySelector('.banner')")


def test_everything_is_reached_by_the_keyboard(open_page, quickstart_url):
    page = open_page()
    settled(page, quickstart_url + "/runs")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    seen = set()
    for _ in range(40):
        page.keyboard.press("Tab")
        focused = page.evaluate("document.activeElement.id || document.activeElement.textContent.trim()")
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert outline != "none", focused
        seen.add(focused)
        if focused == "sort-gain_sampled":
            break
    assert {"filter", "group", "size", "Runs"} <= seen
    page.keyboard.press("Enter")
    page.wait_for_selector("th[aria-sort]")
    assert page.evaluate("document.activeElement.id") == "sort-gain_sampled"  # the focus stays where it was


def test_everything_works_without_javascript(open_page, study_url):
    page = open_page(java_script_enabled=False)
    page.goto(study_url + "/runs")
    page.click("#sort-gain_sampled")
    assert page.locator("th[aria-sort]").count() == 1
    page.fill("#filter", "model=tiny-64")
    page.click("button[type=submit]")
    assert page.input_value("#filter") == "model=tiny-64"
    page.goto(study_url)
    page.click("h2 >> text=What matters")
    assert "noise within cells" in page.inner_text("main")


def test_light_and_dark_are_chosen_and_kept(open_page, quickstart_url):
    page = open_page(color_scheme="light")
    settled(page, quickstart_url + "/compare")
    ground = "getComputedStyle(document.body).backgroundColor"
    before = page.evaluate(ground)
    page.click("[data-theme-toggle]")
    after = page.evaluate(ground)
    assert after != before
    page.reload()
    assert page.evaluate(ground) == after


def test_of_two_pages_asked_for_the_later_is_shown(open_page, study_url):
    page = open_page()
    settled(page, study_url + "/cells")
    held = []
    page.route("**/cells?*temperature*", lambda route: held.append(route))  # answered below, after the other
    page.select_option("#x", "objective.temperature")
    page.click("nav >> text=Compare")
    until(page, "location.pathname === '/compare' && !!document.querySelector('svg.figure')")
    for route in held:
        route.continue_()
    page.wait_for_timeout(1_000)
    assert held
    assert page.evaluate("location.pathname") == "/compare"
    assert page.evaluate("!!document.querySelector('#a')")


def test_figures_are_drawn_here_and_not_asked_of_the_server(open_page, study_url):
    page = open_page()
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    settled(page, study_url + "/cells")
    page.select_option("#x", "objective.temperature")
    until(page, "document.querySelectorAll('svg.figure').length === 2")
    page.click("nav >> text=Findings")
    until(page, "document.querySelectorAll('svg.figure').length > 3")
    assert not [url for url in asked if url.split("?")[0].endswith(".svg") and "/static/" not in url]
