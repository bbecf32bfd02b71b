// Whom each token attends to in one head: a map, and the row of one token as bars.

import { bars, drawn, element, legend, notes, oneStop, percent, spelled } from "./drawing.js";

const MOST_BARS = 8;
const MANY = 32;  // Tokens; beyond, the cells are smaller.

// Attention is mostly spread thin: the root tells small weights apart.
const tint = (weight) => Math.sqrt(weight ?? 0);

export const attentionLegend = () => legend("heat",
  [0, 0.01, 0.1, 0.25, 0.5, 1].map((weight) => [`${100 * weight}%`, tint(weight)]));

/** The answer of /api/attention as nodes. */
export function drawAttention({ tokens, weights, notices }) {
  const rowOf = (from) => element("div", {},
    element("h3", {}, "From ", drawn(tokens[from]), ` (token ${from + 1}) to`),
    bars(tokens
      .map((token, to) => ({ token, probability: weights[from][to], place: to + 1 }))
      .sort((left, right) => right.probability - left.probability)
      .slice(0, MOST_BARS), 1));

  const buttons = tokens.map((token, from) => element("button", {
    type: "button", title: spelled(token), "aria-label": summary(tokens, weights, from),
  }, drawn(token)));
  const rows = tokens.map((token, from) => element("tr", {},
    element("th", { scope: "row" }, buttons[from]),
    ...tokens.map((other, to) => {
      const share = percent(weights[from][to]);
      return element("td", {
        className: "heat", "--tint": tint(weights[from][to]),
        title: `${spelled(token)} → ${spelled(other)}: ${share}`,
      }, share);
    })));
  const head = element("tr", {}, element("td"),
    ...tokens.map((token) => {
      const label = drawn(token);
      label.title ||= spelled(token);
      return element("th", { scope: "col" }, label);
    }));
  const table = element("table", { "aria-label": "Attention from the row to the column" },
    element("thead", {}, head), element("tbody", {}, ...rows));

  const map = element("div", { className: tokens.length > MANY ? "map many" : "map" }, table);
  const detail = element("div", { className: "detail" });
  const choose = oneStop(buttons, (from) => {
    rows.forEach((row, other) => row.classList.toggle("chosen", other === from));
    detail.replaceChildren(rowOf(from));
  });
  rows.forEach((row, from) => row.addEventListener("pointerenter", () => choose(from)));
  choose(Math.min(1, tokens.length - 1));  // The first one holds the beginning of the text only.
  return [
    ...notes(notices),
    element("p", { className: "sub" }, "Each row is a token; the columns are what it attends to."),
    element("div", { className: "attention" }, map, detail),
  ];
}

function summary(tokens, weights, from) {
  const best = tokens
    .map((token, to) => [weights[from][to], spelled(token)])
    .sort(([left], [right]) => right - left)
    .slice(0, 3);
  const parts = best.map(([weight, token]) => `${token} ${percent(weight)}`);
  return `${spelled(tokens[from])} attends to ${parts.join(", ")}`;
}
