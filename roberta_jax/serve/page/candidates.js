// What could stand in the place of each mask.

import { bars, element, notes } from "./drawing.js";

/** The text cut at its masks, whichever way they are spelled. */
export function pieces(text, ownMask) {
  return text.split(ownMask).join("<mask>").split("<mask>");
}

/** The answer of /api/fill_mask as nodes. */
export function drawCandidates({ masks, notices }) {
  const most = Math.max(...masks.flat().map(({ probability }) => probability ?? 0));
  const lists = masks.map((candidates, index) => element("div", {},
    ...(masks.length > 1 ? [element("h3", {}, `Mask ${index + 1}`)] : []),
    bars(candidates, most)));
  return [...notes(notices), element("div", { className: "masks" }, ...lists)];
}

/** The text with the best candidate in the place of each mask. */
export function filled(text, masks, ownMask) {
  const [first, ...others] = pieces(text, ownMask);
  return others.reduce((sentence, piece, index) => {
    // A mask takes the blanks before it along; a candidate that begins a word brings one.
    const word = masks[index]?.[0]?.token ?? "";
    const before = sentence.trimEnd();
    return (before === "" ? word.trimStart() : before + word) + piece;
  }, first);
}
