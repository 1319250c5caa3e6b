"""The finished book in a real browser: charts draw and answer, no other host is asked, and phones can read it."""

from __future__ import annotations

import functools
import html.parser
import http.server
import os
import re
import threading
import urllib.parse
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd
import pytest
import yaml
from axe_playwright_python.sync_playwright import Axe

from companion import book, profiles
from companion.paths import ROOT

pytestmark = [pytest.mark.browser, pytest.mark.slow]

TOC = yaml.safe_load((ROOT / "_toc.yml").read_text())
NAMES = [TOC["root"], *(chapter["file"] for part in TOC["parts"] for chapter in part["chapters"])]
PAGES = ["search.html", *(f"{name}.html" for name in NAMES)]
CHARTS = "notebooks/progressive.html"
LABS = "book/labs.html"
WITH_CHARTS = (f"{TOC['root']}.html", LABS, "book/speed.html")  # besides the notebooks
REPOSITORY = "https://github.com/someone/companion"
DESKTOP, PHONE = (1280, 900), (390, 800)
DRAWN = ".companion-chart[data-drawn-width] svg.marks"


@pytest.fixture(scope="session")
def site(browser, tmp_path_factory) -> Path:
    """The book built from the repository's published results and an empty store."""
    folder = tmp_path_factory.mktemp("book")
    experiments = profiles.load("pocket-quick").experiments
    wanted = {name: {**parameters, "store": str(folder / "store")} for name, parameters in experiments.items()}
    return book.build(wanted, folder / "_build", repository=REPOSITORY).parent


class Links(html.parser.HTMLParser):
    """The ids of a page, and where its links lead."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.ids, self.targets = set(), []
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        found = dict(attributes)
        self.ids.add(found.get("id"))
        if tag == "a" and found.get("href"):
            self.targets.append(found["href"])


def test_every_link_within_the_site_leads_to_a_page_and_a_place_on_it(site):
    pages = {page: Links(page) for page in site.rglob("*.html")}
    broken = []
    for page, links in pages.items():
        for target in links.targets:
            address = urllib.parse.urlsplit(target)
            if address.scheme or address.netloc:
                continue
            there = (page.parent / urllib.parse.unquote(address.path)).resolve() if address.path else page
            if not there.exists() or (address.fragment and address.fragment not in pages[there].ids):
                broken.append(f"{page.relative_to(site)} -> {target}")
    assert broken == []
    assert sum("#figure-" in target for target in pages[site / "book" / "scorecard.html"].targets) > 8


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_) -> None:
        pass


@pytest.fixture(scope="session")
def address(site) -> Iterator[str]:
    handler = functools.partial(QuietHandler, directory=str(site))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


@dataclass
class Visit:
    """A page, and what went wrong on it: console errors and warnings, failed and foreign requests."""

    page: object
    complaints: list[str] = field(default_factory=list)

    def watch(self, own: str) -> None:
        self.page.on("console", lambda m: m.type in ("error", "warning") and self.complaints.append(m.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("requestfailed", lambda request: self.complaints.append(f"failed: {request.url[:200]}"))
        self.page.on("request", lambda request: self._check(request.url, own))

    def _check(self, url: str, own: str) -> None:
        if not url.startswith((own, "data:", "blob:")):
            self.complaints.append(f"foreign: {url[:200]}")

    def draw_all(self) -> int:
        """Scroll to every chart until it is drawn; their number."""
        charts = self.page.locator(".companion-chart")
        for i in range(charts.count()):
            charts.nth(i).scroll_into_view_if_needed()
            charts.nth(i).locator("svg .mark-symbol path, svg .mark-line path").first.wait_for(state="attached")
        return charts.count()

    def axe(self) -> list[str]:
        """What axe-core finds wrong on the page as it now is: rule, element, and what to do."""
        options = {"preload": False}  # it would ask for style sheets at places where they are not
        violations = Axe().run(self.page, options=options).response["violations"]
        return [f"{v['id']}: {n['html'][:120]} | {n.get('failureSummary', '')}" for v in violations for n in v["nodes"]]


@pytest.fixture
def visit(browser):
    contexts = []

    def go(url: str, *, size=DESKTOP, scheme="light") -> Visit:
        context = browser.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)
        contexts.append(context)
        visit = Visit(context.new_page())
        visit.watch(url.split("//")[0] + "//" + url.split("//")[1].split("/")[0])
        visit.page.goto(url)
        visit.page.wait_for_load_state("networkidle")
        return visit

    yield go
    for context in contexts:
        context.close()


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize(("size", "scheme"), [(DESKTOP, "light"), (DESKTOP, "dark"), (PHONE, "light"), (PHONE, "dark")])
def test_page_is_whole(visit, address, name, size, scheme):
    """No complaint in the console or of axe, no other host asked, every chart drawn, nothing wider than the window."""
    page = visit(f"{address}/{name}", size=size, scheme=scheme)
    charts = page.draw_all()
    assert (charts > 0) == (name.startswith("notebooks/") or name in WITH_CHARTS)
    assert page.page.evaluate("document.documentElement.scrollWidth") <= size[0]
    assert page.axe() == []
    assert page.complaints == []


def test_first_page_leads_to_the_landing_page(visit, address):
    page = visit(f"{address}/index.html").page  # requests that the redirect cuts short are not failures
    page.wait_for_url(f"{address}/{TOC['root']}.html")


def test_charts_fit_a_phone(visit, address):
    page = visit(f"{address}/{CHARTS}", size=PHONE)
    page.draw_all()
    edges = page.page.locator(DRAWN).evaluate_all("all => all.map(svg => svg.getBoundingClientRect().right)")
    assert all(edge <= PHONE[0] for edge in edges)


def first_chart(page):
    chart = page.locator(".companion-chart").first
    chart.scroll_into_view_if_needed()  # charts are drawn when they come near
    chart.locator("svg.marks").wait_for()
    return chart


def lines(page) -> list[str]:
    """The path of every line of the first chart, as drawn."""
    return first_chart(page).locator(".mark-line path").evaluate_all("all => all.map(p => p.getAttribute('d'))")


def title(page) -> str:
    return first_chart(page).locator(".role-title-text").first.text_content()


def menu(page, name: str):
    return first_chart(page).get_by_role("combobox", name=name)


def test_task_dropdown_changes_lines_and_metric(visit, address):
    page = visit(f"{address}/{CHARTS}").page
    menu(page, "task").select_option(label="pocket-cola")
    assert title(page) == "Matthews correlation"
    cola = lines(page)
    menu(page, "task").select_option(label="pocket-qnli")
    assert title(page) == "accuracy"
    assert lines(page) != cola


def test_layer_surgery_page_shows_the_chosen_model(visit, address):
    """The slider, by keyboard, makes one more layer random; a permutation moves their numbers; the score is said."""
    page = visit(f"{address}/{LABS}").page
    chart = first_chart(page)

    def pretrained() -> list[str]:
        return [text for text in chart.locator(".role-mark.mark-text text").all_text_contents() if text]

    assert pretrained() == [str(i) for i in range(1, 9)]
    before = chart.locator(".role-title-text").first.text_content()
    chart.get_by_role("slider", name="n").focus()
    for _ in range(4):
        page.keyboard.press("ArrowRight")
    assert pretrained() == ["1", "2", "3", "4"]
    assert "layers 5 to 12 random" in chart.locator(".role-title-text").first.text_content() != before
    menu(page, "operation").select_option(label="layers permuted, permutation n")
    assert sorted(map(int, pretrained())) == list(range(1, 13)) != list(map(int, pretrained()))


def test_size_dropdown_leaves_one_line_and_slider_hides_trials(visit, address):
    page = visit(f"{address}/{CHARTS}").page
    everything = len(lines(page))
    sizes = menu(page, "training examples")
    assert everything == sizes.locator("option").count() - 1
    sizes.select_option(index=1)
    assert len(lines(page)) == 1
    marks = first_chart(page).locator(".mark-symbol path")
    dots = marks.count()
    first_chart(page).get_by_role("slider", name="seeds below").focus()
    page.keyboard.press("Home")
    means = marks.count()
    assert means < dots
    page.keyboard.press("ArrowRight")
    assert means < marks.count() < dots


def test_a_click_on_the_legend_leaves_one_line(visit, address):
    page = visit(f"{address}/{CHARTS}").page
    everything = len(lines(page))
    drawn = "document.querySelector('.companion-chart').querySelectorAll('.mark-line path').length"
    # forced, because Vega listens on the whole drawing, which lies over its marks
    first_chart(page).locator(".role-legend-symbol path").first.click(force=True)
    page.wait_for_function(f"{drawn} == 1")
    first_chart(page).locator("svg.marks").click(position={"x": 4, "y": 4})  # where nothing is drawn
    page.wait_for_function(f"{drawn} == {everything}")


def test_means_are_read_off_where_the_slider_stands(visit, address):
    page = visit(f"{address}/{CHARTS}").page
    chart = first_chart(page)
    chart.get_by_role("slider", name="pretrained layers preserved, means at").focus()
    page.keyboard.press("Home")
    said = chart.locator(".role-mark.mark-text text").filter(has_text="at 0 (")
    assert re.search(r"500:\s-?\d\.\d{3}", said.first.text_content())
    page.keyboard.press("End")
    assert said.count() == 0


def test_explorer_page_shows_any_experiment(visit, address):
    visited = visit(f"{address}/{LABS}")
    figure = visited.page.locator("#figure-any-experiment")
    figure.scroll_into_view_if_needed()
    figure.locator("svg.marks").wait_for()
    figure.get_by_role("combobox", name="profile").select_option(label="pocket")
    figure.get_by_role("combobox", name="experiment").select_option(label="permutation")
    below = figure.locator(".role-mark.mark-text text").filter(has_text="permutation (seed")
    labels = figure.locator(".role-axis-label text").all()
    assert below.bounding_box()["y"] > max(label.bounding_box()["y"] for label in labels)
    assert figure.locator(".mark-symbol path").count() > 10
    figure.get_by_role("combobox", name="experiment").select_option(label="small_data")
    figure.get_by_role("combobox", name="experiment").select_option(label="localized")
    figure.get_by_role("combobox", name="training examples").select_option(label="100")
    assert figure.get_by_text("No trial of this choice is published.").text_content()
    assert visited.complaints == []


def test_dropdown_works_by_keyboard(visit, address):
    page = visit(f"{address}/{CHARTS}").page
    before = lines(page)
    menu(page, "task").focus()
    page.keyboard.press("ArrowDown")
    assert lines(page) != before


def test_theme_switch_draws_again_and_keeps_the_choice(visit, address):
    page = visit(f"{address}/{CHARTS}").page
    menu(page, "task").select_option(label="pocket-qnli")
    color = "document.querySelector('.companion-chart .role-axis-label text').getAttribute('fill')"
    light = page.evaluate(color)
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    page.wait_for_function(f"document.querySelector('.companion-chart .role-axis-label') && {color} !== '{light}'")
    assert menu(page, "task").evaluate("s => s.selectedOptions[0].text") == "pocket-qnli"
    assert title(page) == "accuracy"


def test_a_line_chosen_in_the_legend_stays_chosen_when_drawn_again(visit, address):
    page = visit(f"{address}/{CHARTS}").page
    menu(page, "task").select_option(label="pocket-qnli")
    lines = "document.querySelector('.companion-chart').querySelectorAll('.mark-line path').length"
    every = page.evaluate(lines)
    first_chart(page).locator(".role-legend-symbol path").first.click(force=True)
    page.wait_for_function(f"{lines} < {every}")
    left, color = page.evaluate(lines), "document.querySelector('.companion-chart .role-axis-label text')"
    before = page.evaluate(f"{color}.getAttribute('fill')")
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    page.wait_for_function(f"{color} && {color}.getAttribute('fill') !== '{before}'")
    page.wait_for_function(f"{lines} === {left}")


def test_the_page_is_printed_light_and_with_every_chart(visit, address):
    page = visit(f"{address}/{CHARTS}").page
    page.evaluate("document.documentElement.dataset.theme = 'dark'")
    page.evaluate(
        """() => window.print = () => { window.printed = {
            theme: document.documentElement.dataset.theme,
            drawn: document.querySelectorAll('.companion-chart svg.marks').length,
            colors: [...document.querySelectorAll('.role-axis-label text')].map(e => e.getAttribute('fill')) } }"""
    )
    page.locator(".btn-download-pdf-button").evaluate("button => button.click()")
    page.wait_for_function("window.printed")
    printed = page.evaluate("window.printed")
    assert printed["theme"] == "light"
    assert printed["drawn"] == page.locator(".companion-chart").count() > 3
    assert len(set(printed["colors"])) == 1  # those of charts drawn before in the dark, too
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_charts_and_choices_have_names(visit, address):
    visited = visit(f"{address}/{CHARTS}")
    visited.draw_all()
    page = visited.page
    unnamed = page.locator(".companion-drawing :is(select, input)").evaluate_all(
        "all => all.filter(e => ![...e.labels].some(l => l.textContent.trim())).length"
    )
    assert unnamed == 0
    names = page.locator(".companion-chart").evaluate_all("all => all.map(e => e.getAttribute('aria-label') ?? '')")
    assert all(len(name) > 40 for name in names)
    menus = page.locator(".companion-drawing summary")
    assert all(menus.nth(i).get_attribute("aria-label") for i in range(menus.count()))


def test_a_notebook_page_offers_its_notebook_and_print_and_binder(visit, address):
    page = visit(f"{address}/{CHARTS}").page
    files = page.locator("a[download], a[href$='.ipynb']").evaluate_all("all => all.map(a => a.getAttribute('href'))")
    assert any(name.endswith("notebooks/progressive.ipynb") for name in files)
    assert page.locator(".btn-download-pdf-button").count() == 1
    binder = "https://mybinder.org/v2/gh/someone/companion/main?urlpath=lab/tree/notebooks/progressive.ipynb"
    assert page.locator(f"a[href='{binder}']").count() == 1


def test_rows_can_be_downloaded(visit, address):
    page = visit(f"{address}/{CHARTS}").page
    with page.expect_download() as download:
        page.get_by_role("link", name="Download the rows (CSV)").first.click()
    lines = Path(download.value.path()).read_text().splitlines()
    assert lines[0].startswith("model,layers,task,metric,protocol,series,x,n,mean,low,high")
    assert len(lines) > 1


def test_tables_of_figures_and_folded_parts_are_accessible_when_open(visit, address):
    page = visit(f"{address}/{CHARTS}")
    page.page.evaluate("document.querySelectorAll('details').forEach(part => part.open = true)")
    page.draw_all()
    assert page.axe() == []


def test_search_finds_the_text_of_a_notebook(visit, address):
    page = visit(f"{address}/search.html?q=reinitialization+suffix").page
    page.locator("#search-results a[href*='notebooks/progressive.html']").first.wait_for()


def test_page_weights_are_listed_and_small(site):
    listed = pd.read_csv(site.parent / "page-weights.csv").set_index("page")["bytes"]
    assert set(PAGES) <= set(listed.index)
    assert all((site / page).stat().st_size == size for page, size in listed.items())
    assert listed.max() < 3_000_000  # a page loads in seconds over a slow connection


def test_pages_opened_as_files_draw_too(visit, site):
    page = visit(f"file://{site}/{CHARTS}")
    assert page.draw_all() > 0
    assert [c for c in page.complaints if "foreign" in c or "chart" in c] == []


def test_the_site_carries_nothing_of_the_machine(site):
    """No file of the site, notebooks and scripts' data included, has a place or a secret of whoever built it."""
    places = re.compile(r"(?<![\w.~$}/])/(?:home|Users|root|tmp|work|mnt|private|var/folders)/[\w.-]+")
    secret = {v for k, v in os.environ.items() if len(v) > 12 and re.search("TOKEN|KEY|SECRET|PASS", k)}
    own = {str(ROOT), str(site.parent), str(Path.home())} - {"/", "/root"}
    folders = re.compile(rf"(?<![\w.~$}}/])(?:{'|'.join(map(re.escape, own))})(?![\w.-])")
    found = {}
    for path in (p for p in site.rglob("*") if p.suffix in (".html", ".ipynb", ".md", ".json", ".csv", ".txt")):
        text = path.read_text(errors="replace")
        if bad := [*places.findall(text), *(value for value in secret if value in text), *folders.findall(text)]:
            found[str(path.relative_to(site))] = bad[:3]
    assert found == {}
