"""The report in a real browser: Debian's chromium with its driver."""

import base64
import json
import re
import shutil
import subprocess

import pytest
import spheres
from astropy.coordinates import SkyCoord
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait
from skies import poisson_sky, write_survey

from cwt_dask import run_survey
from cwt_dask.report import write_report

OPTIONS = {"workers": 0, "fits": "no", "n_scale": 2, "min_scale": 1.2, "step_scale": 1.5, "max_iter": 4}
# All candidates are sources.
OPTIONS |= {"false_sources": 1e9}
SECONDS = 60
DATA = "JSON.parse(document.getElementById('data').textContent)"


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    survey = write_survey(folder / "survey.fits", *poisson_sky((250, 400), seed=5, n_sources=60))
    run = run_survey(survey, folder / "run", tile_size=130, **OPTIONS)
    # More than a page of the table holds.
    assert len(run.catalogue) > 60
    return write_report(run)


@pytest.fixture(scope="module")
def browser():
    driver = shutil.which("chromedriver")
    assert driver, "apt-get install chromium chromium-driver poppler-utils"
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1280,900"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield browser
    browser.quit()


@pytest.fixture
def page(browser, report):
    """The page, drawn; nothing may be wrong when the test is over."""
    yield from opened(browser, report)


@pytest.fixture
def page_of_sphere(browser, tmp_path):
    """That of a run on the sphere; the same holds."""
    yield from opened(browser, write_report(spheres.small_run(tmp_path)))


def opened(browser, report):
    browser.get_log("performance")
    browser.get(report.as_uri())
    wait(browser, "return document.documentElement.dataset.drawn")
    yield browser
    faults = [entry for entry in browser.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")]
    assert not faults
    sent = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    urls = [event["params"]["request"]["url"] for event in sent if event["method"] == "Network.requestWillBeSent"]
    assert [url for url in urls if not url.startswith(("data:", "blob:"))] == [report.as_uri()]


def open_changed(browser, report, tmp_path, change):
    """Show the page with other data."""
    text = report.read_text(encoding="utf-8")
    start = text.index(mark := '<script type="application/json" id="data">') + len(mark)
    data, end = json.JSONDecoder().raw_decode(text, start)
    change(data)
    page = tmp_path / "report.html"
    page.write_text(text[:start] + json.dumps(data) + text[end:], encoding="utf-8")
    browser.get(page.as_uri())
    wait(browser, "return document.documentElement.dataset.drawn")


def wait(browser, script):
    return WebDriverWait(browser, SECONDS).until(lambda driver: driver.execute_script(script))


def model(browser, name, what):
    return browser.execute_script(f"return Bokeh.documents[0].get_model_by_name('{name}').{what}")


def rows(browser):
    return browser.find_elements(By.CSS_SELECTOR, "#catalogue tbody tr")


def column(browser, title):
    heads = [head.text.split("\n")[0] for head in browser.find_elements(By.CSS_SELECTOR, "#catalogue th")]
    at = next(i for i, head in enumerate(heads) if head.startswith(title)) + 1
    return [cell.text for cell in browser.find_elements(By.CSS_SELECTOR, f"#catalogue tbody tr > :nth-child({at})")]


def extent(browser, axis="x"):
    """The middle of the view, and its length."""
    start, end = (model(browser, f"{axis}-range", at) for at in ("start", "end"))
    return (start + end) / 2, end - start


def sort_by(browser, title):
    """Press enter on a heading, and give it."""
    button = browser.find_element(By.XPATH, f"//table[@id='catalogue']//button[starts-with(., '{title}')]")
    scroll_to(browser, button).send_keys(Keys.ENTER)
    return button


def scroll_to(browser, element):
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", element)
    return element


def test_every_figure_is_drawn(page):
    heights = "[...document.querySelectorAll('.chart')].map(chart => chart.getBoundingClientRect().height)"
    drawn = page.execute_script(f"return {heights}")
    assert len(drawn) == 12
    assert min(drawn) > 100
    # The view has no fewer pixels than the map, and pixels are square.
    across, up = extent(page)[1], extent(page, "y")[1]
    width, height = model(page, "map-counts", "inner_width"), model(page, "map-counts", "inner_height")
    assert across >= 400
    assert up >= 250
    assert across / width == pytest.approx(up / height, rel=0.01)
    for chart in ("map-counts", "close-up"):
        assert all(len(model(page, chart, f"{side}[0].ticker.ticks")) >= 2 for side in ("below", "left"))
    assert page.execute_script("return document.documentElement.scrollWidth") <= 1280
    # Maps use the width that there is.
    assert width > 1000


def test_the_sphere_is_drawn_with_the_outlines_of_its_facets_on_request(page_of_sphere):
    page, data = page_of_sphere, "const data = JSON.parse(document.getElementById('data').textContent); return "
    before = len(model(page, "lines", "data.xs"))
    outlines, x, y = page.execute_script(f"{data} [data.facets.xs.length, data.x[0], data.y[0]]")
    scroll_to(page, page.find_element(By.ID, "outlines")).click()
    wait(page, f"return Bokeh.documents[0].get_model_by_name('lines').data.xs.length === {before + outlines}")
    Select(page.find_element(By.ID, "tile-colour")).select_by_value("counts")
    assert model(page, "tile-bar", "title") == "counts in its cell"
    # The close-up is around the strongest source.
    middle = [(model(page, f"close-{axis}", "start") + model(page, f"close-{axis}", "end")) / 2 for axis in "xy"]
    assert middle == pytest.approx([x, y])


def test_the_table_sorts(page):
    strengths = [float(text) for text in column(page, "Score")]
    assert strengths == sorted(strengths, reverse=True)
    button = sort_by(page, "Counts of the source")
    assert [float(text) for text in column(page, "Counts of the source")] == sorted(
        map(float, column(page, "Counts of the source")), reverse=True
    )
    button.click()
    assert [float(text) for text in column(page, "Counts of the source")] == sorted(
        map(float, column(page, "Counts of the source"))
    )
    assert button.find_element(By.XPATH, "..").get_attribute("aria-sort") == "ascending"
    sort_by(page, "Name")
    assert column(page, "Name") == sorted(column(page, "Name"))


def test_what_has_no_end_sorts_before_all_numbers_and_what_is_missing_last(browser, report, tmp_path):
    def change(data):
        (values,) = [column["values"] for column in data["columns"] if column["name"] == "sqrt_ts"]
        # As where the background is zero, and where nothing could be measured.
        values[4], values[7] = "∞", None

    open_changed(browser, report, tmp_path, change)
    button = sort_by(browser, "√TS")
    first, *others = column(browser, "√TS")
    assert first == "∞"
    assert [float(text) for text in others] == sorted(map(float, others), reverse=True)
    button.click()
    assert "∞" not in column(browser, "√TS")
    while (after := browser.find_element(By.ID, "after")).is_enabled():
        after.click()
    assert column(browser, "√TS")[-2:] == ["∞", ""]


def test_the_table_turns_its_pages_and_filters(page):
    total = int(page.find_element(By.ID, "count").text.split()[0])
    assert len(rows(page)) == 50
    scroll_to(page, page.find_element(By.ID, "after")).click()
    assert len(rows(page)) == min(total - 50, 50)
    name = column(page, "Name")[1]
    page.find_element(By.ID, "find").send_keys(name)
    assert set(column(page, "Name")) == {name}
    page.find_element(By.ID, "find").clear()
    page.find_element(By.ID, "least").send_keys("10")
    assert 0 < len(rows(page)) < total
    assert min(float(text) for text in column(page, "Score")) >= 10
    for name in ("least", "most-false"):
        page.find_element(By.ID, name).clear()
        page.find_element(By.ID, name).send_keys("1")
    assert 0 < len(rows(page)) < total
    assert max(float(text) for text in column(page, "Expected false")) <= 1
    for name in ("least", "most-false"):
        page.find_element(By.ID, name).clear()
        page.find_element(By.ID, name).send_keys(Keys.SPACE, Keys.BACKSPACE)
    Select(page.find_element(By.ID, "flagged")).select_by_value("without")
    assert rows(page)
    shown = {flag for flags in column(page, "Flags") for flag in flags.split(", ") if flag}
    assert shown <= {"map edge", "masked neighbour", "crosses seam"}
    Select(page.find_element(By.ID, "flagged")).select_by_value("")
    found = {}
    for extent in ("points", "extended"):
        Select(page.find_element(By.ID, "extent")).select_by_value(extent)
        found[extent] = int(page.find_element(By.ID, "count").text.split()[0])
        assert {float(text) > 0 for text in column(page, "Extension")} <= {extent == "extended"}
    assert sum(found.values()) == total
    page.find_element(By.ID, "find").send_keys("no such thing")
    assert not rows(page)
    assert page.find_element(By.ID, "page").text == "none"


def test_columns_can_be_chosen_and_the_name_stays_in_sight(page):
    # Positions of the map's frame are shown, others when they are asked for.
    assert column(page, "b")
    assert not [text for text in column_of(page, "ra") if text]
    scroll_to(page, page.find_element(By.CSS_SELECTOR, "details.columns summary")).click()
    for box in page.find_elements(By.CSS_SELECTOR, "#columns input:not(:checked)"):
        box.click()
    assert all(column_of(page, "ra"))
    left = rows(page)[0].find_element(By.TAG_NAME, "th").rect["x"]
    page.execute_script("document.querySelector('.tall').scrollLeft = 500")
    assert page.execute_script("return document.querySelector('.tall').scrollLeft") > 0
    assert rows(page)[0].find_element(By.TAG_NAME, "th").rect["x"] == pytest.approx(left, abs=2)


def column_of(browser, name):
    """Texts of a column of the catalogue; empty where it is not shown."""
    at = browser.execute_script(f"return {DATA}.columns.findIndex((column) => column.name === '{name}') + 1")
    return [cell.text for cell in browser.find_elements(By.CSS_SELECTOR, f"#catalogue tbody tr > :nth-child({at})")]


@pytest.mark.parametrize("how", ["click", "key"])
def test_a_row_moves_the_maps_to_its_source(page, how):
    row = scroll_to(page, rows(page)[7])
    assert row.get_attribute("tabindex") is None
    row.click() if how == "click" else row.find_element(By.TAG_NAME, "button").send_keys(Keys.ENTER)
    data = json.loads(page.find_element(By.ID, "data").get_attribute("textContent"))
    x, y = data["x"][7], data["y"][7]
    assert (extent(page)[0], extent(page, "y")[0]) == pytest.approx((x, y))
    assert model(page, "close-x", "start") < x < model(page, "close-x", "end")
    assert model(page, "sources", "selected.indices") == [7]
    wait(page, "return Bokeh.documents[0].get_model_by_name('marked').indices.includes(7)")
    assert rows(page)[7].get_attribute("aria-current") == "true"
    assert column(page, "Name")[7] in page.find_element(By.ID, "chosen").text


def test_what_is_known_of_the_chosen_source_is_shown(page):
    scroll_to(page, rows(page)[3].find_element(By.TAG_NAME, "button")).send_keys(Keys.ENTER)
    data = page.execute_script(f"return {DATA}")
    values = {each["name"]: each["values"] for each in data["columns"]}
    facts = page.find_element(By.ID, "facts").text
    assert f"{values['score'][3]}" in facts
    assert "Position error" in facts
    # The nearest one on the sky.
    sky = SkyCoord(values["ra"], values["dec"], unit="deg")
    (nearest,), (far,), _ = sky[[3]].match_to_catalog_sky(sky, nthneighbor=2)
    first = page.find_element(By.CSS_SELECTOR, "#neighbours li").text
    assert first.startswith(f"{values['name'][nearest]} {far.deg:.3g}".rstrip("0"))
    links = [link.get_attribute("href") for link in page.find_elements(By.CSS_SELECTOR, "#links a")]
    assert [link.split("/")[2] for link in links] == [
        "simbad.cds.unistra.fr",
        "ned.ipac.caltech.edu",
        "tevcat.uchicago.edu",
    ]
    assert f"{values['ra'][3]}" in links[0]
    assert f"{values['ra'][3]}" in links[1]
    profiles = data["profiles"]
    area = [area for area in profiles["area"][3] if area]
    assert model(page, "profile-counts", "data.y[0]") == pytest.approx(profiles["counts"][3][0] / area[0])
    below, fitted = (model(page, f"profile-{name}", "data.y[0]") for name in ("background", "model"))
    assert fitted == pytest.approx(below + profiles["source"][3][0])
    assert model(page, "extent-ts", "data.x") == [each * profiles["psf"][3] for each in profiles["extensions"]]
    assert model(page, "extent-ts", "data.y") == profiles["ts"][3]
    assert model(page, "extent-fitted", "data.x") == [values["extension"][3]]
    page.find_element(By.CSS_SELECTOR, "#neighbours button").click()
    assert page.find_element(By.ID, "source-name").text == values["name"][nearest]


def test_the_counterpart_of_a_source_is_named(browser, report, tmp_path):
    def change(data):
        n, look = len(data["x"]), {"unit": "", "description": "", "shown": False}
        names = {"name": "assoc_name", "title": "Associated with", "text": True, "values": ["3FHL J1", *[""] * (n - 1)]}
        far = {"name": "assoc_sep", "title": "Separation", "text": False, "values": [0.0625, *[None] * (n - 1)]}
        data["columns"] += [look | names, look | far]

    open_changed(browser, report, tmp_path, change)
    assert browser.find_element(By.ID, "counterpart").text == "3FHL J1, 0.0625° away"
    scroll_to(browser, rows(browser)[1].find_element(By.TAG_NAME, "button")).click()
    assert browser.find_element(By.ID, "counterpart").text.startswith("none ")


def test_it_is_dark_where_the_browser_is_and_paper_is_white(page):
    dark = {"features": [{"name": "prefers-color-scheme", "value": "dark"}]}
    paper = "return getComputedStyle(document.body).backgroundColor"
    assert page.execute_script(paper) == "rgb(255, 255, 255)"
    light = model(page, "map-counts", "below[0].major_label_text_color")
    try:
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", dark)
        assert max(map(int, re.findall(r"\d+", page.execute_script(paper)))) < 64
        assert model(page, "map-counts", "below[0].major_label_text_color") != light
        page.execute_script("window.dispatchEvent(new Event('beforeprint'))")
        assert model(page, "map-counts", "below[0].major_label_text_color") == light
        page.execute_script("window.dispatchEvent(new Event('afterprint'))")
        assert model(page, "map-counts", "below[0].major_label_text_color") != light
    finally:
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_circles_are_as_large_as_their_sources(page):
    radii = page.execute_script(f"return {DATA}.radius")
    for size, chart, axis in (("close", "close-up", "close-x"), ("size", "map-counts", "x-range")):
        wide = model(page, axis, "end") - model(page, axis, "start")
        scale = model(page, chart, "inner_width") / wide
        shown = model(page, "sources", f"data.{size}")
        # Small ones can still be seen.
        assert shown == pytest.approx([max(2 * radius * scale, 11) for radius in radii], rel=0.02)
    # A length on the sky.
    text, (start, end) = model(page, "scale-bar", "data.text[0]"), model(page, "scale-bar", "data.xs[0]")
    degrees = float(text[:-1]) / {"°": 1, "\N{PRIME}": 60}[text[-1]]
    assert (end - start) * 0.1 == pytest.approx(degrees, rel=0.02)


def test_a_source_that_is_chosen_on_the_map_is_shown_in_the_table(page):
    page.execute_script("Bokeh.documents[0].get_model_by_name('sources').selected.indices = [55]")
    (chosen,) = [row for row in rows(page) if row.get_attribute("aria-current") == "true"]
    assert chosen.get_attribute("data-source") == "55"
    assert page.find_element(By.ID, "page").text.startswith("51 to")


def test_buttons_move_the_maps(page):
    def press(what):
        scroll_to(page, page.find_element(By.CSS_SELECTOR, f"[data-move={what}]")).click()

    before, width = extent(page)
    press("in")
    assert extent(page) == pytest.approx((before, width / 2))
    press("right")
    assert extent(page)[0] > before
    press("up")
    press("whole")
    assert extent(page)[0] == pytest.approx(199.5)


def test_times_of_any_number_of_tiles_have_extremes(page):
    assert page.execute_script("return cwtExtremes([...Array(1e6).keys()])") == [0, 999999]


def test_colours_scales_and_tiles_can_be_chosen(page):
    before, ticks = model(page, "mapper-counts", "palette[200]"), model(page, "bar/map-counts/counts", "ticker.ticks")
    Select(page.find_element(By.ID, "stretch")).select_by_value("linear")
    assert model(page, "mapper-counts", "palette[200]") != before
    assert model(page, "bar/map-counts/counts", "ticker.ticks") != ticks
    # Counts are smoothed until they are asked for as they were observed.
    assert model(page, "map-counts", "right[1].visible")
    assert not model(page, "map-counts", "right[0].visible")
    Select(page.find_element(By.ID, "kind")).select_by_value("counts")
    wait(page, "return Bokeh.documents[0].get_model_by_name('map-counts/counts/1').visible")
    assert not model(page, "map-counts/smoothed/1", "visible")
    assert [model(page, "map-counts", f"right[{i}].visible") for i in (0, 1)] == [True, False]
    Select(page.find_element(By.ID, "across")).select_by_value("3")
    wait(page, "return Bokeh.documents[0].get_model_by_name('map-counts').inner_width < 400")
    Select(page.find_element(By.ID, "across")).select_by_value("auto")
    all_scales = model(page, "mapper-support", "palette[3]")
    Select(page.find_element(By.ID, "scale")).select_by_value("support 1")
    assert model(page, "mapper-support", "palette[3]") == "#ffffff" != all_scales
    Select(page.find_element(By.ID, "closer")).select_by_value("significance")
    wait(page, "return Bokeh.documents[0].get_model_by_name('close-up/significance/1').visible")
    assert not model(page, "close-up/counts/1", "visible")
    Select(page.find_element(By.ID, "tile-colour")).select_by_value("log_error")
    assert model(page, "tile-bar", "title") == "seam error (log₁₀)"
    page.find_element(By.ID, "mark").click()
    wait(page, "return Bokeh.documents[0].get_model_by_name('marked').indices.length === 0")


def test_what_is_under_the_pointer_is_described(page):
    found = page.execute_script("return window.cwtDask.describe('counts', 130, {x: 199.5, y: 124.5})")
    assert found.startswith("Counts about ")
    assert "l 10.00°, b 0.00°; pixel 200, 125" in found.replace("\N{MINUS SIGN}0.00", "0.00")
    assert page.execute_script("return window.cwtDask.describe('model', 0, {x: 1, y: 1})").startswith("masked: ")
    assert page.execute_script("return window.cwtDask.describe('support', 3, {x: 1, y: 1})").startswith("scale 1.2: ")
    assert column(page, "Name")[0] in page.execute_script("return window.cwtDask.source(0)")


def test_a_telephone_shows_all_of_it(page):
    try:
        page.set_window_size(500, 900)
        metrics = {"width": 360, "height": 780, "deviceScaleFactor": 2, "mobile": True}
        page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        assert page.execute_script("return document.documentElement.scrollWidth") <= 360
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        page.set_window_size(1280, 900)


def printed(page, tmp_path):
    content = base64.b64decode(page.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"])
    (pdf := tmp_path / "report.pdf").write_bytes(content)
    return subprocess.run(["pdftotext", pdf, "-"], check=True, capture_output=True, text=True).stdout


def test_it_is_printed_with_its_figures_and_its_table_as_filtered(page, tmp_path):
    total = page.find_element(By.ID, "count").text
    assert not page.find_element(By.ID, "in-print").is_displayed()
    printed_text = printed(page, tmp_path)
    assert page.execute_script("return document.querySelectorAll('img.printed[alt]').length") == 12
    expected = (f"50 of {total}", "Largest seam error", "The tiles did no harm", column(page, "Name")[49])
    assert [text for text in expected if text not in printed_text] == []
    assert [text for text in ("filter:", "Zoom") if text in printed_text] == []

    # It names the filter, and leaves the reader's page.
    scroll_to(page, page.find_element(By.ID, "after")).click()
    names = column(page, "Name")
    assert f"50 of {total}" in printed(page, tmp_path)
    assert column(page, "Name") == names
    assert page.find_element(By.ID, "slowest").get_attribute("open") is None
    scroll_to(page, page.find_element(By.CSS_SELECTOR, "#slowest summary")).click()
    assert f"50 of {total}" in printed(page, tmp_path)
    assert page.find_element(By.ID, "slowest").get_attribute("open") is not None
    page.find_element(By.ID, "find").send_keys(names[0])
    assert f"1 of {total}; filter: with “{names[0]}”; 1 match" in " ".join(printed(page, tmp_path).split())
