// Renders a git patch by file, and the replacement of an edit in the same style.

import { clean, make, plural } from "./text.js";

const HUNK = /^@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@(.*)$/;
const FOLD_FILE = 250; // lines; a longer file is collapsed initially
const FOLD_ALL = 800; // lines of all previous files; later files are collapsed

// Returns the files of a patch: {name, notes, lines: [{sign, text, number}], insertions, deletions}. Signs: "+", "-", " ", "@" and "\\".
export function parsePatch(patch) {
  const files = [];
  let file = null;
  let place = null; // position in a hunk: the next line numbers and the remaining lines of each side
  for (const line of patch.split("\n")) {
    if (place && (place.oldLeft > 0 || place.newLeft > 0) && takeLine(file, place, line)) continue;
    if (place && line.startsWith("\\")) {
      file.lines.push({ sign: "\\", text: line.slice(2), number: null });
      continue;
    }
    const hunk = HUNK.exec(line);
    if (line.startsWith("diff --git ")) {
      file = { name: nameOf(line), notes: [], lines: [], insertions: 0, deletions: 0 };
      files.push(file);
      place = null;
    } else if (hunk && file) {
      const count = (text) => (text === undefined ? 1 : Number(text));
      place = { old: +hunk[1], oldLeft: count(hunk[2]), new: +hunk[3], newLeft: count(hunk[4]) };
      file.lines.push({ sign: "@", text: line, number: null });
    } else if (file) {
      takeHeader(file, line);
    }
  }
  return files;
}

// A removed line may look like a header ("-- a/file"), so the line counts determine the end of a hunk.
function takeLine(file, place, line) {
  const sign = line === "" ? " " : line[0];
  if (!"+- ".includes(sign)) return false;
  const number = sign === "-" ? place.old : place.new;
  if (sign !== "+") (place.old += 1), (place.oldLeft -= 1);
  if (sign !== "-") (place.new += 1), (place.newLeft -= 1);
  if (sign === "+") file.insertions += 1;
  if (sign === "-") file.deletions += 1;
  file.lines.push({ sign, text: line.slice(1), number });
  return true;
}

function takeHeader(file, line) {
  const named = /^(?:---|\+\+\+) "?[ab]\/(.*?)"?\t?$/.exec(line);
  if (named) file.name = named[1];
  else if (/^(new file|deleted file|old mode|new mode|rename|copy|similarity|Binary files)/.test(line)) file.notes.push(line);
}

// "diff --git a/NAME b/NAME" has the name twice. The lines that follow are more exact, if there are any.
function nameOf(line) {
  const names = line.slice("diff --git ".length);
  const half = names.slice((names.length + 1) / 2).replace(/^"?b\//, "").replace(/"$/, "");
  return half || names;
}

export function renderPatch(patch, truncated) {
  const files = parsePatch(patch);
  let shown = 0;
  const parts = files.map((file) => {
    const open = file.lines.length <= FOLD_FILE && shown + file.lines.length <= FOLD_ALL;
    shown += open ? file.lines.length : 0;
    return renderFile(file, open);
  });
  if (!files.length && patch.trim()) parts.push(make("pre", "output", clean(patch)));
  if (truncated) parts.push(make("p", "missing", "The patch was too large to store. Its end is missing."));
  return make("div", "patch", ...parts);
}

function renderFile(file, open) {
  const summary = make(
    "summary", "", make("code", "file-name", clean(file.name)), " ", file.lines.length ? counts(file.insertions, file.deletions) : null,
    file.notes.length ? make("span", "note", ` ${clean(file.notes[0])}`) : null,
  );
  const details = make("details", "file", summary);
  // Collapsed files are rendered only when they are opened.
  const fill = () => {
    if (details.childElementCount > 1) return;
    for (const note of file.notes.slice(1)) details.append(make("p", "note", clean(note)));
    if (file.lines.length) details.append(renderLines(file.lines));
  };
  details.fill = fill;
  details.addEventListener("toggle", () => details.open && fill());
  if (open) {
    fill();
    details.open = true;
  }
  return details;
}

export function counts(insertions, deletions) {
  const plus = make("span", "plus", `+${insertions}`);
  const minus = make("span", "minus", `−${deletions}`);
  const said = make("span", "hidden", ` (${plural(insertions, "line")} added, ${plural(deletions, "line")} removed)`);
  plus.ariaHidden = minus.ariaHidden = "true";
  return make("span", "counts", plus, " ", minus, said);
}

const CLASSES = { "+": "added", "-": "removed", "@": "hunk", "\\": "note" };

export function renderLines(lines) {
  const block = make("pre", "diff");
  block.tabIndex = 0; // it scrolls horizontally, also by keyboard
  block.ariaLabel = "Changes";
  block.setAttribute("role", "group");
  for (const { sign, text, number } of lines) {
    const shown = "+- ".includes(sign) ? sign + clean(text) : clean(text);
    const line = make("span", CLASSES[sign] ?? "", `${shown}\n`);
    // The style sheet shows the numbers, so that copied lines do not contain them.
    if (number !== null) line.dataset.number = number;
    block.append(line);
  }
  return block;
}

// Renders the old and the new text of an edit.
export function replacement(before, after) {
  const side = (text, sign) => (text ? text.replace(/\n$/, "").split("\n") : []).map((line) => ({ sign, text: line, number: null }));
  return renderLines([...side(before, "-"), ...side(after, "+")]);
}
