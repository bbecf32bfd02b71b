// The form, the three questions that follow each other, and what is said when one fails.

import { attentionLegend, drawAttention } from "./attention.js";
import { drawCandidates, filled, pieces } from "./candidates.js";
import { element } from "./drawing.js";
import { drawProbabilities, probabilitiesLegend } from "./probabilities.js";

const byId = (id) => document.getElementById(id);
const { layers, heads, mask } = document.body.dataset;
const [form, sentence, status] = [byId("question"), byId("sentence"), byId("status")];

let asked = 0;  // Which question is in hand; an older one is given up.
let read = "";  // The sentence of the views that take no mask.
const requests = new Map();  // View → what gives up its request.

/** Asks the server; throws an Error whose message is for the reader. */
async function post(view, path, fields) {
  requests.get(view)?.abort();
  const request = new AbortController();
  requests.set(view, request);
  let response;
  try {
    response = await fetch(`/api/${path}`, {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify(fields),
      signal: request.signal,
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer. Does `roberta-jax serve` still run?");
  }
  const answer = await response.json().catch((error) => {
    if (error.name === "AbortError") throw error;
    return {};
  });
  if (!response.ok) throw new Error(answer.error ?? `The server answered ${response.status}.`);
  return answer;
}

/** Fills a view with the nodes of `work`, or with what went wrong; true if all is well. */
async function show(view, work) {
  const section = byId(view);
  const body = section.querySelector(".body");
  section.setAttribute("aria-busy", "true");
  try {
    body.replaceChildren(...await work());
  } catch (error) {
    if (error.name === "AbortError") return true;  // A newer request fills the view.
    body.replaceChildren(element("p", { className: "error", role: "alert" }, error.message));
    section.removeAttribute("aria-busy");
    return false;
  }
  section.removeAttribute("aria-busy");
  return true;
}

async function showCandidates(text) {
  read = text;
  return show("candidates", async () => {
    if (pieces(text, mask).length === 1) {
      return [element("p", { className: "sub" },
        "The sentence has no ", element("code", {}, "<mask>"), ", so nothing is to be filled in.")];
    }
    const answer = await post("candidates", "fill_mask",
      { text, top_k: Number(byId("top_k").value) });
    read = filled(text, answer.masks, mask);
    return drawCandidates(answer);
  });
}

const withRead = (nodes, text) => text === read && read === sentence.value ? nodes : [
  element("p", { className: "sub read" }, `Sentence: ${text}`), ...nodes];

function showAttention() {
  const fields = { text: read, layer: Number(byId("layer").value), head: Number(byId("head").value) };
  return show("attention", async () =>
    withRead(drawAttention(await post("attention", "attention", fields)), fields.text));
}

function showProbabilities() {
  const text = read;
  return show("probabilities", async () =>
    withRead(drawProbabilities(await post("probabilities", "score", { text })), text));
}

async function ask() {
  const text = sentence.value;
  const mine = ++asked;
  const begin = performance.now();
  for (const request of requests.values()) request.abort();
  history.replaceState(null, "", `#${encodeURIComponent(text)}`);
  byId("results").hidden = false;
  let well = true;
  for (const [what, step] of [
    ["Looking for candidates", () => showCandidates(text)],
    ["Looking at attention", showAttention],
    ["Computing probabilities", showProbabilities],
  ]) {
    status.textContent = `${what} …`;
    well = await step() && well;
    if (mine !== asked) return;
  }
  const seconds = ((performance.now() - begin) / 1000).toFixed(1);
  status.textContent = well ? `Answered in ${seconds} s.` : "Not everything could be answered.";
}

function fillSelect(select, count) {
  for (let index = 0; index < Number(count); index++) {
    select.append(element("option", { value: index }, String(index + 1)));
  }
  select.addEventListener("change", () => read && showAttention());
}

fillSelect(byId("layer"), layers);
fillSelect(byId("head"), heads);
byId("attention-legend").append(...attentionLegend());
byId("probabilities-legend").append(...probabilitiesLegend());
form.addEventListener("submit", (event) => { event.preventDefault(); ask(); });
sentence.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    form.requestSubmit();
  }
});
try {
  sentence.value = decodeURIComponent(location.hash.slice(1)) || sentence.value;
} catch {
  // An address that somebody cut short: the example stays.
}
