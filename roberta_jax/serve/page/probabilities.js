// How probable each token of a sentence is: the less, the stronger its tint.

import { drawn, element, legend, notes, oneStop, percent, spelled } from "./drawing.js";

const RAREST = 1e-4;  // As strong as a tint gets.

const tint = (probability) => Math.min(
  Math.log(Math.max(probability ?? RAREST, RAREST)) / Math.log(RAREST), 1);

export const probabilitiesLegend = () => legend("surprise",
  [["100%", 1], ["10%", 0.1], ["1%", 0.01], ["0.1%", 0.001], ["0.01% or less", RAREST]].map(
    ([label, probability]) => [label, tint(probability)]));

/** The answer of /api/score as nodes. */
export function drawProbabilities({ tokens, pseudo_perplexity: perplexity, notices }) {
  if (tokens.length === 0) return [element("p", { className: "sub" }, "There are no tokens.")];
  const numbers = tokens.map(({ probability, log_probability: nats }) => nats === null
    ? "no number" : `${percent(probability)} (${nats.toFixed(2).replace("-", "−")} nats)`);
  const buttons = tokens.map(({ token, probability }, index) => element("button", {
    type: "button", className: "surprise", "--tint": tint(probability),
    title: numbers[index], "aria-label": `${spelled(token)}: ${numbers[index]}`,
  }, drawn(token)));
  const detail = element("p", { className: "detail sub" },
    "Point at a token, or go through them with the arrow keys.");
  const choose = oneStop(buttons, (index) => {
    buttons.forEach((button, other) => button.classList.toggle("chosen", other === index));
    detail.replaceChildren(drawn(tokens[index].token), ` ${numbers[index]}`);
  });
  buttons.forEach((button, index) => button.addEventListener("pointerenter", () => choose(index)));
  const count = tokens.length === 1 ? "1 token" : `${tokens.length} tokens`;
  return [
    ...notes(notices),
    element("div", { className: "sentence", role: "group", "aria-label": "Tokens" }, ...buttons),
    detail,
    element("p", { className: "total" },
      "Pseudo-perplexity ", element("strong", { className: "number" }, readable(perplexity)),
      element("span", { className: "sub" },
        ` over ${count}, each masked alone; 1 is the least there is.`)),
  ];
}

function readable(perplexity) {
  if (perplexity === null) return "–";
  if (perplexity >= 1e7) return perplexity.toExponential(2);
  const digits = perplexity < 100 ? 2 : 0;
  return perplexity.toLocaleString("en",
    { minimumFractionDigits: digits, maximumFractionDigits: digits });
}
