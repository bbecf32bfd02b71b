"""The page in a real browser, without a window."""

import json
import re
import shutil

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import Select, WebDriverWait

import roberta_jax
from tests.serve import stand_in
from tests.serve.live import live
from tests.serve.stand_in import StandIn

BROWSER = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-dev-shm-usage", "--no-proxy-server"),
)
WIDE, PHONE = (1280, 900), (380, 780)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (BROWSER and DRIVER),
        reason="needs a browser and its driver (Debian: chromium, chromium-driver)",
    ),
]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    # With its path given, selenium looks for no driver on the network.
    driver = webdriver.Chrome(options=options, service=Service(executable_path=DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def model():
    return StandIn()


@pytest.fixture
def page(browser, model):
    with live(model) as port:
        yield opened(browser, port)
        browser.get("about:blank")  # Closes its connections, before the server ends.


class Page:
    """What a person does and sees."""

    def __init__(self, browser, port):
        self.browser, self.port = browser, port

    def all(self, selector):
        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector):
        return self.browser.find_element(By.CSS_SELECTOR, selector)

    def texts(self, selector):
        return [found.text for found in self.all(selector)]

    def type(self, text):
        field = self.one("#sentence")
        field.clear()
        field.send_keys(text)

    def ask(self, text):
        self.type(text)
        self.one("#ask").click()
        return self.answered()

    def answered(self):
        ends = ("Answered in", "Not everything")
        self.until(lambda: self.one("#status").text.startswith(ends))
        return self.one("#status").text

    def until(self, holds):
        WebDriverWait(self.browser, 20, poll_frequency=0.05).until(lambda _: holds())

    def choose(self, name, text):
        Select(self.one(f"#{name}")).select_by_visible_text(text)
        self.until(lambda: self.one("#attention").get_attribute("aria-busy") is None)

    def map(self):
        return [
            [cell.get_attribute("textContent") for cell in row.find_elements(By.TAG_NAME, "td")]
            for row in self.all("#attention tbody tr")
        ]

    def complaints(self):
        return [entry["message"] for entry in self.browser.get_log("browser")]

    def requested(self):
        messages = [
            json.loads(entry["message"])["message"] for entry in self.browser.get_log("performance")
        ]
        return [
            message["params"]["request"]["url"]
            for message in messages
            if message["method"] == "Network.requestWillBeSent"
        ]


def opened(browser, port, size=WIDE, scheme="light"):
    browser.get_log("browser"), browser.get_log("performance")  # Of the page before.
    width, height = size
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": size == PHONE},
    )
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia",
        {"features": [{"name": "prefers-color-scheme", "value": scheme}]},
    )
    browser.get(f"http://localhost:{port}/")
    return Page(browser, port)


def percents(weights):
    """As the page writes them."""
    return [f"{100 * w:.{2 if w < 0.01 else 1}f}%" if w >= 0.0001 else "<0.01%" for w in weights]


def test_a_sentence_is_answered_in_three_views(page, model):
    assert "<mask>" in page.one("#sentence").get_attribute("value")  # An example.
    assert not page.one("#results").is_displayed()
    assert page.ask("He shut the <mask> again.").startswith("Answered in")

    assert page.texts("#candidates .bars .token") == [
        "␣door",
        "<img␣src=x␣onerror=document.title='broken'>",
        "␣aU+202Eb",
        "\ufffd",
        "␣&amp;",
    ]
    assert page.texts("#candidates .bars .number") == ["40.0%", "30.0%", "10.0%", "5.0%", "<0.01%"]
    widths = [
        page.browser.execute_script(
            "return parseFloat(getComputedStyle(arguments[0], '::before').width)", bar
        )
        for bar in page.all("#candidates .bar")
    ]
    assert widths == sorted(widths, reverse=True)
    assert widths[1] / widths[0] == pytest.approx(0.75, abs=0.01)

    # The best candidate takes the place of the mask, and of the blank before it.
    assert model.texts[1:] == ["He shut the door again."] * 2
    assert page.texts("#attention .read") == ["Sentence: He shut the door again."]
    tokens = ["<s>", "He", "␣shut", "␣the", "␣door", "␣again.", "</s>"]
    assert page.texts("#attention tbody th") == tokens
    assert page.texts("#probabilities .sentence button") == tokens[1:-1]


def test_the_pseudo_perplexity_is_that_of_the_api(page):
    page.ask("a b c")
    mean = -sum(map(stand_in.log_probability, range(3))) / 3
    assert f"Pseudo-perplexity {2.718281828459045**mean:.2f}" in page.one("#probabilities").text


def test_the_selectors_change_the_map(page, model):
    page.ask("a b")
    shape = (stand_in.LAYERS, stand_in.HEADS, 4, 4)
    weights = stand_in.attention_of(shape)
    assert page.map() == [percents(row) for row in weights[0, 0]]
    assert page.texts("#layer option") == ["1", "2", "3"]
    assert page.texts("#head option") == ["1", "2"]
    page.choose("layer", "3")
    page.until(lambda: page.map() == [percents(row) for row in weights[2, 0]])
    page.choose("head", "2")
    page.until(lambda: page.map() == [percents(row) for row in weights[2, 1]])
    asked = len(model.texts)
    page.ask("a b")  # With the head that is chosen.
    assert page.map() == [percents(row) for row in weights[2, 1]]
    assert len(model.texts) == asked + 2  # Without a mask, candidates are not asked for.


def test_a_token_shows_its_row_to_the_pointer_and_to_the_keyboard(page):
    page.ask("a b c")
    weights = stand_in.attention_of((stand_in.LAYERS, stand_in.HEADS, 5, 5))[0, 0]

    def shown():
        return page.texts("#attention .detail .number")

    def expected(row):
        return percents(sorted(weights[row], reverse=True))

    ActionChains(page.browser).move_to_element(page.all("#attention tbody tr")[3]).perform()
    assert "From ␣c (token 4) to" in page.one("#attention .detail").text
    assert shown() == expected(3)
    cell = page.all("#attention tbody tr")[3].find_elements(By.TAG_NAME, "td")[0]
    assert cell.get_attribute("title") == f"␣c → <s>: {percents(weights[3])[0]}"

    buttons = page.all("#attention tbody button")
    assert [button.get_attribute("tabindex") for button in buttons] == ["-1"] * 3 + ["0", "-1"]
    assert buttons[3].get_attribute("aria-label").startswith("␣c attends to ")
    page.browser.execute_script("arguments[0].focus()", buttons[3])
    page.browser.switch_to.active_element.send_keys(Keys.ARROW_UP)
    assert shown() == expected(2)
    page.browser.switch_to.active_element.send_keys(Keys.HOME)
    assert shown() == expected(0)


def test_a_token_of_the_sentence_shows_its_probability(page):
    page.ask("a b c d e f g h i j k l m n o p q r s t")
    buttons = page.all("#probabilities .sentence button")
    assert buttons[0].get_attribute("title") == "50.0% (−0.69 nats)"
    ActionChains(page.browser).move_to_element(buttons[1]).perform()
    assert page.one("#probabilities .detail").text == "␣b 30.3% (−1.19 nats)"
    buttons[1].click()
    page.browser.switch_to.active_element.send_keys(Keys.END)
    assert page.one("#probabilities .detail").text == "␣t <0.01% (−10.19 nats)"
    tints = [
        page.browser.execute_script("return arguments[0].style.getPropertyValue('--tint')", button)
        for button in buttons
    ]
    assert list(map(float, tints)) == sorted(map(float, tints)) and float(tints[-1]) == 1
    colours = {button.value_of_css_property("background-color") for button in buttons[:15]}
    assert len(colours) == 15


def test_the_keyboard_is_enough(page):
    page.type("the <mask>")
    page.one("#sentence").send_keys(Keys.CONTROL, Keys.ENTER)
    page.answered()
    assert len(page.all("#candidates .bars li")) == len(stand_in.CANDIDATES)
    reached = []
    for _ in range(8):
        page.browser.switch_to.active_element.send_keys(Keys.TAB)
        active = page.browser.switch_to.active_element
        reached.append(active.get_attribute("id") or active.text)
    assert reached[:4] == ["ask", "top_k", "layer", "head"]
    assert {"the", "</s>"} & set(reached) or "the" in reached
    assert page.all("label")[0].get_attribute("for") == "sentence"


def test_every_control_has_a_label(page):
    page.ask("the <mask>")
    names = page.browser.execute_script(
        "return [...document.querySelectorAll('select, textarea, button')].map(control => "
        "control.labels?.[0]?.innerText || control.getAttribute('aria-label') || control.innerText)"
    )
    assert all(names) and names[:3] == ["Sentence", "Ask the model", "Candidates"]
    assert page.one("#status").get_attribute("role") == "status"


def test_what_is_typed_and_what_is_answered_stays_text(page):
    attack = "<img src=x onerror=\"document.title='broken'\"><script>document.title=1</script>"
    page.ask(f"{attack} <mask> </textarea>&lt;b&gt;")
    assert page.all("img") == [] and page.all("main script") == []
    assert page.browser.title == "small · roberta_jax"
    assert attack in page.one("#attention .read").text
    assert page.complaints() == []


def test_the_policy_of_the_page_forbids_html_from_text(page):
    refused = page.browser.execute_script(
        "try { document.body.innerHTML = '<i>x</i>'; return ''; } catch (e) { return e.name; }"
    )
    assert refused == "TypeError"


def test_nothing_is_asked_of_another_machine_and_nothing_is_complained_about(page):
    page.ask("He shut the <mask> and the <mask>.")
    page.choose("layer", "2")
    requested = page.requested()
    assert len(requested) >= 10
    here = re.compile(rf"http://localhost:{page.port}/|data:")
    assert [url for url in requested if not here.match(url)] == []
    assert page.complaints() == []


def test_several_masks_have_lists_of_their_own(page, model):
    page.ask("<mask> of<mask> the")
    assert page.texts("#candidates h3") == ["Mask 1", "Mask 2"]
    numbers = page.texts("#candidates .number")
    assert (numbers[0], numbers[5]) == ("40.0%", "20.0%")
    assert model.texts[-1] == "door of door the"
    Select(page.one("#top_k")).select_by_visible_text("5")
    page.ask("<mask>")
    assert page.texts("#candidates h3") == []


def test_errors_are_said_in_their_view(page, model):
    assert page.ask("<mask>" * 17) == "Not everything could be answered."
    assert page.texts("#candidates [role=alert]") == [
        "The text has more than 16 masks. Leave some out."
    ]
    assert page.all("#attention [role=alert]") == []

    def broken(text):
        raise RuntimeError("a secret")

    model.attention = broken
    page.ask("the <mask>")
    assert page.texts("[role=alert]") == ["The server failed at this; its terminal says why."]
    del model.attention
    assert page.ask("the <mask>").startswith("Answered in")
    assert page.texts("[role=alert]") == []
    assert page.ask("  ") == "Not everything could be answered."
    assert page.texts("#attention [role=alert]") == ["The sentence is empty. Type one."]


def test_a_sentence_without_mask_still_has_the_other_views(page):
    assert page.ask("no hole").startswith("Answered in")
    assert "has no <mask>" in page.one("#candidates .body").text
    assert page.all("#attention .read") == []  # It is what stands in the field.
    assert len(page.all("#probabilities .sentence button")) == 2


def test_what_was_left_out_is_said(page):
    page.type("")
    page.browser.execute_script("document.getElementById('sentence').value = 'word '.repeat(500)")
    page.one("#ask").click()
    page.answered()
    assert page.texts("#attention .note") == [
        "The text has 502 tokens, and this view shows at most 64: its end was left out."
    ]
    assert "at most 128" in page.one("#probabilities .note").text


def test_a_text_that_is_too_large_is_an_error(page):
    page.browser.execute_script(
        "document.getElementById('sentence').value = '<mask>' + 'x'.repeat(70000)"
    )
    page.one("#ask").click()
    page.answered()
    assert set(page.texts("[role=alert]")) == {"The text is too long: a request may have 64 KiB."}


def test_a_server_that_has_gone_is_said(browser, model):
    with live(model) as port:
        page = opened(browser, port)
    page.ask("the <mask>")
    assert len(page.all("[role=alert]")) == 3
    assert "Does `roberta-jax serve` still run?" in page.texts("[role=alert]")[0]


def test_a_newer_question_replaces_one_that_is_being_answered(page, model):
    model.gate.clear()
    page.type("first <mask>")
    page.one("#ask").click()
    page.until(lambda: model.texts == ["first <mask>"])
    page.type("second")
    page.one("#ask").click()
    model.gate.set()
    page.answered()
    assert page.texts("#probabilities .sentence button") == ["second"]
    assert [text for text in model.texts if "first" in text] == ["first <mask>"]


def test_the_address_keeps_the_sentence(page):
    page.ask("naïve <mask> & 100%")
    page.browser.refresh()
    assert page.one("#sentence").get_attribute("value") == "naïve <mask> & 100%"
    page.browser.get(f"http://localhost:{page.port}/#%E0%A4%A")  # Cut short.
    page.browser.refresh()
    assert "<mask>" in page.one("#sentence").get_attribute("value")


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
def test_nothing_is_wider_than_the_screen(browser, model, size, scheme):
    with live(model, name="runs/" + "long" * 60) as port:
        page = opened(browser, port, size, scheme)
        page.ask("supercalifragilistic" * 8 + " <mask> " + "word " * 70)
        width = browser.execute_script("return document.documentElement.scrollWidth")
        assert width <= size[0]
        background = page.one("body").value_of_css_property("background-color")
        assert ("24, 24, 27" in background) == (scheme == "dark")
        browser.get("about:blank")


def test_a_trained_model_is_shown_as_it_answers(browser, complete):
    model = roberta_jax.load(complete)
    with live(model, "run") as port:
        page = opened(browser, port)
        text = "The old river <mask> back."
        assert page.ask(text).startswith("Answered in")
        (best,) = model.fill_mask(text, 10)
        shown = [token.strip() for token in page.texts("#candidates .bars .token")]
        assert shown == [candidate.token.replace(" ", "␣") for candidate in best]
        assert page.texts("#candidates .number") == percents([one.probability for one in best])
        read = f"The old river{best[0].token} back."
        tokens, weights = model.attention(read)
        assert page.texts("#attention tbody th") == [token.replace(" ", "␣") for token in tokens]
        assert page.map() == [percents(row) for row in weights[0, 0].astype(float)]
        assert page.complaints() == []
        browser.get("about:blank")
