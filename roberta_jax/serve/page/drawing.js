// What every view draws with. Texts enter the page as text nodes only, never as HTML.

/** An element with properties (`className`, `title`, ...) and children (nodes or strings). */
export function element(name, properties = {}, ...children) {
  const made = document.createElement(name);
  for (const [property, value] of Object.entries(properties)) {
    if (property.startsWith("aria-") || property === "role" || property === "scope") {
      made.setAttribute(property, value);
    } else if (property.startsWith("--")) {
      made.style.setProperty(property, value);
    } else {
      made[property] = value;
    }
  }
  made.append(...children);
  return made;
}

/** A probability for people; an en dash where the model gave no number. */
export function percent(probability) {
  if (probability === null) return "–";
  if (probability > 0 && probability < 0.0001) return "<0.01%";
  return `${(100 * probability).toFixed(probability < 0.01 ? 2 : 1)}%`;
}

const SIGNS = new Map([[" ", "␣"], ["\n", "↵"], ["\t", "⇥"], ["\uFFFD", "\uFFFD"]]);

/** The characters of a token as [text, whether it is a sign for what cannot be seen]. */
function characters(token) {
  if (token === "") return [["(empty)", true]];
  return Array.from(token, (character) => {
    if (SIGNS.has(character)) return [SIGNS.get(character), true];
    if (/[\p{C}\p{Z}]/u.test(character)) {
      const code = character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
      return [`U+${code}`, true];
    }
    return [character, false];
  });
}

/** A token as plain text, with blanks and what else cannot be seen as signs. */
export function spelled(token) {
  return characters(token).map(([text]) => text).join("");
}

/** A token as an element. */
export function drawn(token) {
  const made = element("span", { className: "token" });
  for (const [text, sign] of characters(token)) {
    made.append(sign ? element("span", { className: "mark" }, text) : text);
  }
  if (token.includes("\uFFFD")) made.title = "Bytes that are only a part of a character.";
  return made;
}

/** Bars, one for each {token, probability, place?}; the longest stands for `most`. */
export function bars(entries, most) {
  return element("ol", { className: "bars" }, ...entries.map(({ token, probability, place }) => {
    const label = drawn(token);
    label.title ||= spelled(token);
    if (place !== undefined) label.append(element("sub", { className: "mark" }, ` ${place}`));
    return element("li", {},
      label,
      element("span", {
        className: "bar", "--share": most > 0 ? probability / most : 0, "aria-hidden": "true",
      }),
      element("span", { className: "number" }, percent(probability)));
  }));
}

/** What was left out of a text, one paragraph each. */
export function notes(notices) {
  return notices.map((notice) => element("p", { className: "note" }, notice));
}

/** Samples of a tint: [label, tint from 0 to 1] each. */
export function legend(className, samples) {
  return samples.map(([label, tint]) => element("span", {},
    element("i", { className, "--tint": tint, "aria-hidden": "true" }), label));
}

/**
 * Makes one tab stop of many buttons: arrow keys, Home and End go from one to the other.
 * `show(index)` is called for the one that is pointed at, touched or reached by the keyboard.
 */
export function oneStop(buttons, show) {
  const choose = (index) => {
    buttons.forEach((button, other) => { button.tabIndex = other === index ? 0 : -1; });
    show(index);
  };
  buttons.forEach((button, index) => {
    button.tabIndex = index === 0 ? 0 : -1;
    button.addEventListener("focus", () => choose(index));
    button.addEventListener("click", () => choose(index));
    button.addEventListener("keydown", (event) => {
      const last = buttons.length - 1;
      const next = {
        ArrowRight: Math.min(index + 1, last), ArrowDown: Math.min(index + 1, last),
        ArrowLeft: Math.max(index - 1, 0), ArrowUp: Math.max(index - 1, 0), Home: 0, End: last,
      }[event.key];
      if (next === undefined) return;
      event.preventDefault();
      buttons[next].focus();
    });
  });
  return choose;
}
