"""The API: answers, limits, who is let in, and one request at a time."""

import http.client
import json
import math
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from importlib import resources

import numpy as np
import pytest
from starlette.testclient import TestClient

import roberta_jax
from roberta_jax.serve import answers
from roberta_jax.serve.app import EXAMPLE, FILES, MAX_BODY_BYTES, make_app
from roberta_jax.serve.guard import HEADERS
from tests.serve import stand_in
from tests.serve.live import live, wait_until
from tests.serve.stand_in import StandIn

HOST = "http://127.0.0.1:8000"
APIS = ("/api/fill_mask", "/api/attention", "/api/score")


def client_of(model, *, name="small", **options):
    return TestClient(make_app(model, name, **options), base_url=HOST)


@pytest.fixture
def model():
    return StandIn()


@pytest.fixture
def client(model):
    with client_of(model) as client:
        yield client


def error_of(response, status):
    assert response.status_code == status, response.text
    (error,) = response.json().values()
    return error


def test_the_candidates_are_those_of_the_model_best_first(client, model):
    answer = client.post("/api/fill_mask", json={"text": "the <mask> <mask>.", "top_k": 2}).json()
    assert answer["notices"] == []
    assert answer["masks"] == [
        [{"token": token, "probability": p / n} for token, p in stand_in.CANDIDATES[:2]]
        for n in (1, 2)
    ]
    assert model.texts == ["the <mask> <mask>."]


def test_attention_is_that_of_one_layer_and_head(client):
    answer = client.post("/api/attention", json={"text": "a b", "layer": 2, "head": 1}).json()
    assert answer["tokens"] == ["<s>", "a", " b", "</s>"]
    expected = stand_in.attention_of((stand_in.LAYERS, stand_in.HEADS, 4, 4))[2, 1]
    assert np.array_equal(np.array(answer["weights"], np.float32), expected)
    assert (answer["layer"], answer["head"]) == (2, 1)
    assert (answer["layers"], answer["heads"]) == (stand_in.LAYERS, stand_in.HEADS)


def test_scores_come_with_probability_and_pseudo_perplexity(client):
    answer = client.post("/api/score", json={"text": "a b"}).json()
    assert [token["token"] for token in answer["tokens"]] == ["a", " b"]
    logs = [stand_in.log_probability(0), stand_in.log_probability(1)]
    assert [token["log_probability"] for token in answer["tokens"]] == logs
    assert [token["probability"] for token in answer["tokens"]] == pytest.approx(np.exp(logs))
    assert answer["pseudo_perplexity"] == pytest.approx(math.exp(-sum(logs) / 2))


@pytest.mark.parametrize("number", [-math.inf, math.nan, -2000.0])
def test_numbers_that_json_lacks_are_null(client, model, monkeypatch, number):
    monkeypatch.setattr(stand_in, "log_probability", lambda index: number)
    monkeypatch.setattr(stand_in, "attention_of", lambda shape: np.full(shape, math.nan))
    answer = client.post("/api/score", json={"text": "a"}).json()
    assert answer["pseudo_perplexity"] is None
    assert answer["tokens"][0]["probability"] in (None, 0.0)
    weights = client.post("/api/attention", json={"text": "a"}).json()["weights"]
    assert weights == [[None] * 3] * 3


@pytest.mark.parametrize(
    ("path", "limit"),
    [
        ("/api/attention", answers.MAX_ATTENTION_TOKENS),
        ("/api/score", answers.MAX_SCORED_TOKENS),
    ],
)
def test_a_text_that_is_too_long_for_a_view_is_cut_with_a_notice(client, model, path, limit):
    words = [f"w{number}" for number in range(400)]
    answer = client.post(path, json={"text": " ".join(words)}).json()
    assert model.texts == [" ".join(words[: limit - 2])]
    (notice,) = answer["notices"]
    assert notice == (
        f"The text has 402 tokens, and this view shows at most {limit}: its end was left out."
    )
    exact = client.post(path, json={"text": " ".join(words[: limit - 2])}).json()
    assert exact["notices"] == []


def test_a_text_is_not_cut_within_a_character(client, model, monkeypatch):
    # Every character is two tokens.
    monkeypatch.setattr(
        stand_in.Tokenizer,
        "encode_with_offsets",
        lambda self, text: (
            [0] * (2 * len(text)),
            [(place // 2, place // 2 + 1) for place in range(2 * len(text))],
        ),
    )
    client.post("/api/score", json={"text": "x" + "é" * 100})
    assert model.texts == ["x" + "é" * 62]
    model.texts.clear()
    monkeypatch.setattr(answers, "MAX_SCORED_TOKENS", 7)
    client.post("/api/score", json={"text": "é" * 100})
    assert model.texts == ["éé"]


def test_what_the_model_itself_cuts_is_a_notice(client, model):
    model.max_tokens = 20
    text = " ".join(["w"] * (stand_in.MAX_TOKENS + 5))
    answer = client.post("/api/score", json={"text": text}).json()
    assert answer["notices"] == [
        f"The text has {stand_in.MAX_TOKENS + 7} tokens: its end was left out."
    ]


def test_what_the_user_can_mend_is_a_paragraph(client):
    error = error_of(client.post("/api/fill_mask", json={"text": "<b>none</b>"}), 400)
    assert error == "The text '<b>none</b>' has no <mask>; write it."


@pytest.mark.parametrize("path", APIS)
@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("", "not JSON"),
        ("{", "not JSON"),
        (b"\xff", "not JSON"),
        ("[" * 30_000, "not JSON"),
        ("[]", "must be a JSON object"),
        ('"text"', "must be a JSON object"),
        ("{}", "text must be a string"),
        ('{"text": 3}', "text must be a string"),
        ('{"text": null}', "text must be a string"),
        ('{"text": " \\n "}', "The sentence is empty"),
        ('{"text": "<mask> \\ud800"}', "not valid Unicode"),
        ('{"text": "<mask>", "temperature": 1}', "'temperature' is not asked for here"),
    ],
)
def test_a_malformed_request_is_refused(client, model, path, body, message):
    response = client.post(path, content=body, headers={"Content-Type": "application/json"})
    assert message in error_of(response, 400)
    assert model.texts == []


@pytest.mark.parametrize(
    ("path", "field", "values", "span"),
    [
        ("/api/fill_mask", "top_k", (0, 51, "5", 2.0, True, None, 10**30), "1 to 50"),
        ("/api/attention", "layer", (-1, 3, "0", 1.5, False), "0 to 2"),
        ("/api/attention", "head", (-1, 2, [], {}), "0 to 1"),
    ],
)
def test_numbers_are_checked(client, model, path, field, values, span):
    for value in values:
        response = client.post(path, json={"text": "a <mask>", field: value})
        assert error_of(response, 400) == f"{field} must be a whole number from {span}."
    assert model.texts == []


def test_the_number_of_masks_is_limited(client, model):
    most = answers.MAX_MASKS
    assert client.post("/api/fill_mask", json={"text": "<mask>" * most}).status_code == 200
    response = client.post("/api/fill_mask", json={"text": "<mask>" * (most + 1)})
    assert error_of(response, 400) == "The text has more than 16 masks. Leave some out."


@pytest.mark.parametrize("path", APIS)
def test_a_body_of_more_than_64_kib_is_refused_while_it_is_read(client, model, path):
    headers = {"Content-Type": "application/json"}
    text = json.dumps({"text": "x" * MAX_BODY_BYTES})
    assert "64 KiB" in error_of(client.post(path, content=text, headers=headers), 413)

    def parts():  # Sent in chunks, without Content-Length.
        yield b'{"text": "'
        for _ in range(65):
            yield b"x" * 1024

    assert "64 KiB" in error_of(client.post(path, content=parts(), headers=headers), 413)
    assert model.texts == []


def test_the_page_has_the_facts_of_the_model_escaped():
    model = StandIn(mask_token='[MASK"]')
    page = client_of(model, name="<script>alert(1)</script> $step").get("/").text
    assert "<title>&lt;script&gt;alert(1)&lt;/script&gt; $step · roberta_jax</title>" in page
    assert "<script>" not in page
    assert 'data-layers="3" data-heads="2" data-mask="[MASK&quot;]"' in page
    assert "step 1,234 · 3 layers of 2 heads · texts of at most 200 tokens" in page
    assert EXAMPLE.replace("<mask>", "&lt;mask&gt;") in page


def test_every_file_of_the_page_is_sent_and_none_names_another_machine(client):
    folder = resources.files("roberta_jax.serve") / "page"
    assert {file.name for file in folder.iterdir()} == {"page.html", *FILES}
    for name, kind in {"": "text/html", **FILES}.items():
        response = client.get(f"/{name}")
        assert response.status_code == 200
        assert response.headers["content-type"].split(";")[0] == kind
        addresses = set(re.findall(r"https?://[^\"'\s)]*", response.text))
        assert addresses <= {"http://www.w3.org/2000/svg"}
        assert "innerHTML" not in response.text and "insertAdjacentHTML" not in response.text
        assert not re.search(r"\bstyle=|\bon\w+=|<style", response.text)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/", 200),
        ("GET", "/page.js", 200),
        ("GET", "/nothing", 404),
        ("GET", "/../setup.cfg", 404),
        ("GET", "/api/score", 405),
        ("POST", "/api/score", 415),
    ],
)
def test_every_response_has_the_headers(client, method, path, status):
    response = client.request(method, path)
    assert response.status_code == status
    assert {name: response.headers[name] for name in HEADERS} == HEADERS
    policy = HEADERS["Content-Security-Policy"]
    assert policy.startswith("default-src 'none';") and "unsafe" not in policy


def test_a_failure_of_ours_is_said_without_its_inside(model):
    def broken(text):
        raise RuntimeError("a secret")

    model.attention = broken
    app = make_app(model, "small")
    client = TestClient(app, base_url=HOST, raise_server_exceptions=False)
    response = client.post("/api/attention", json={"text": "a"})
    assert error_of(response, 500) == "The server failed at this; its terminal says why."
    assert {name: response.headers[name] for name in HEADERS} == HEADERS
    assert client.post("/api/score", json={"text": "a"}).status_code == 200  # It goes on.


@pytest.mark.parametrize(
    ("listens_on", "host", "status"),
    [
        ("127.0.0.1", "127.0.0.1:8000", 200),
        ("127.0.0.1", "localhost", 200),
        ("127.0.0.1", "LOCALHOST:1", 200),
        ("127.0.0.1", "[::1]:8000", 200),
        ("127.0.0.1", "evil.example", 400),
        ("127.0.0.1", "127.0.0.1.evil.example", 400),
        ("127.0.0.1", "127.0.0.1:8000@evil.example", 400),
        ("127.0.0.1", "192.0.2.7:8000", 400),
        ("127.0.0.1", "[::1", 400),
        ("127.0.0.1", "", 400),
        ("192.0.2.7", "192.0.2.7:8000", 200),
        ("box.example", "box.example:8000", 200),
        ("box.example", "evil.example", 400),
        # On every interface each address is ours, but not each name.
        ("0.0.0.0", "192.0.2.7:8000", 200),
        ("::", "[2001:db8::7]:8000", 200),
        ("::", "evil.example", 400),
    ],
)
def test_only_the_hosts_of_this_server_are_answered(model, listens_on, host, status):
    client = client_of(model, host=listens_on)
    for response in (
        client.get("/", headers={"Host": host}),
        client.post("/api/score", json={"text": "a"}, headers={"Host": host}),
    ):
        assert response.status_code == status
    assert bool(model.texts) == (status == 200)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Origin": HOST, "Sec-Fetch-Site": "same-origin"}, 200),
        ({"Origin": "http://127.0.0.1:9000"}, 403),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Content-Type": "text/plain"}, 415),
        ({"Content-Type": "application/x-www-form-urlencoded"}, 415),
        ({"Content-Type": "application/json; charset=utf-8"}, 200),
    ],
)
def test_a_page_of_another_site_cannot_let_the_model_work(client, model, headers, status):
    headers = {"Content-Type": "application/json"} | headers
    response = client.post("/api/score", content='{"text": "a"}', headers=headers)
    assert response.status_code == status
    assert bool(model.texts) == (status == 200)


def test_one_request_computes_at_a_time_and_the_page_stays_there(client, model):
    model.gate.clear()
    with ThreadPoolExecutor(4) as threads:
        asked = [
            threads.submit(client.post, "/api/score", json={"text": f"a{number}"})
            for number in range(4)
        ]
        wait_until(lambda: model.at_work == 1)
        assert client.get("/").status_code == 200  # While the model is at work.
        time.sleep(0.2)
        assert len(model.texts) == 1
        model.gate.set()
        assert [future.result().status_code for future in asked] == [200] * 4
    assert model.most_at_work == 1
    assert sorted(model.texts) == ["a0", "a1", "a2", "a3"]


def test_the_model_works_in_a_thread_of_its_own(client, model):
    seen = []
    original = model.score_tokens
    model.score_tokens = lambda texts: (
        seen.append(threading.current_thread().name) or original(texts)
    )
    for _ in range(3):
        client.post("/api/score", json={"text": "a"})
    assert set(seen) == {"model_0"}


def test_who_has_left_is_not_computed_for(model):
    model.gate.clear()
    with live(model) as port, ThreadPoolExecutor(1) as threads:

        def send(text):
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
            body = json.dumps({"text": text})
            connection.request("POST", "/api/score", body, {"Content-Type": "application/json"})
            return connection

        def answer(text):
            with closing(send(text)) as connection:
                return connection.getresponse().status

        first = threads.submit(answer, "first")
        wait_until(lambda: model.texts == ["first"])
        send("left").close()
        with closing(send("last")) as last:
            time.sleep(0.3)  # The server sees who has left.
            model.gate.set()
            assert first.result() == last.getresponse().status == 200
    assert model.texts == ["first", "last"]


def test_the_numbers_are_those_of_a_real_model(complete):
    model = roberta_jax.load(complete)
    with client_of(model) as client:
        text = "The old river <mask> over the bridge, é."
        answer = client.post("/api/fill_mask", json={"text": text, "top_k": 3}).json()
        (expected,) = model.fill_mask(text, 3)
        assert answer["masks"] == [
            [{"token": best.token, "probability": best.probability} for best in expected]
        ]

        text = "The old river came."
        answer = client.post("/api/attention", json={"text": text, "layer": 1, "head": 1}).json()
        tokens, weights = model.attention(text)
        assert answer["tokens"] == tokens
        assert np.array_equal(np.array(answer["weights"], np.float32), weights[1, 1])
        assert (answer["layers"], answer["heads"]) == weights.shape[:2]

        answer = client.post("/api/score", json={"text": text}).json()
        (scores,) = model.score_tokens([text])
        assert [(one["token"], one["log_probability"]) for one in answer["tokens"]] == [
            (score.token, score.log_probability) for score in scores
        ]
        assert answer["pseudo_perplexity"] == pytest.approx(model.perplexity([text])[0])

        long = client.post("/api/score", json={"text": "river " * 100}).json()
        assert len(long["tokens"]) == model.max_tokens - 2
        assert "its end was left out" in long["notices"][0]


def test_a_real_tokenizer_gives_the_beginning_that_was_kept(complete, monkeypatch):
    model = roberta_jax.load(complete)
    text = "The old river, naïve 日本, came."
    whole, _ = model.attention(text)
    for limit in range(4, len(whole)):
        monkeypatch.setattr(answers, "MAX_ATTENTION_TOKENS", limit)
        answer = answers.attention(model, {"text": text})
        kept = answer["tokens"]
        assert limit - 3 <= len(kept) <= limit  # A character of three tokens stays whole.
        assert kept[:-1] == whole[: len(kept) - 1]
        assert len(answer["notices"]) == 1
