// What the pages cannot do without a script: dialogs, copying, files, times in the viewer's zone, theme, keys.
"use strict";

// -- dialogs: htmx puts a form into #dialog, which opens; an empty answer closes it -----------

const dialog = () => document.getElementById("dialog");
const kept = new Map();
// Whether somebody typed into the dialog or the editor: a slip of the hand must not lose that.
const typed = { dialog: false, editor: false };

document.addEventListener("htmx:beforeSwap", (event) => {
  if (event.detail.target !== dialog()) return;
  // Secrets are never sent back to us, so what was typed survives an answer that finds fault elsewhere.
  kept.clear();
  for (const field of dialog().querySelectorAll("[data-keep]")) kept.set(field.name, field.value);
});

// After htmx knows what it put there: a select that is changed at once must be heard.
document.addEventListener("htmx:afterSettle", (event) => {
  const box = dialog();
  if (event.detail.target !== box) return refresh(event.detail.target);
  for (const field of box.querySelectorAll("[data-keep]")) {
    if (!field.value && kept.has(field.name)) field.value = kept.get(field.name);
  }
  if (!box.innerHTML.trim()) return box.close();
  if (!box.querySelector("form")) typed.dialog = false;
  if (!box.open) box.showModal();
  refresh(box);
  // The field at fault first, then what the form begins with.
  const first = ["[aria-invalid=true]", "[autofocus]", ".dialog-body :is(input:not([type=hidden]), select, textarea)", ".dialog-body button"]
    .map((selector) => box.querySelector(selector)).find((found) => found);
  if (first) first.focus();
});

document.addEventListener("close", (event) => {
  if (event.target !== dialog()) return;
  const changed = event.target.querySelector("[data-reload]") !== null;
  event.target.innerHTML = "";
  kept.clear();
  typed.dialog = false;
  if (changed) location.reload();
}, true);

// A press that began on text within and ended outside is a selection, no wish to leave.
let pressed = null;
document.addEventListener("pointerdown", (event) => { pressed = event.target; });

document.addEventListener("input", (event) => {
  if (event.target.closest("#dialog form")) typed.dialog = true;
  if (event.target.closest("#editor")) typed.editor = true;
});

document.addEventListener("cancel", (event) => {
  if (event.target === dialog() && typed.dialog && !confirm("What you typed here is not saved. Leave it?")) event.preventDefault();
}, true);

document.addEventListener("submit", (event) => { if (event.target.id === "editor") typed.editor = false; });
addEventListener("beforeunload", (event) => { if (typed.editor) event.preventDefault(); });

document.addEventListener("click", (event) => {
  const on = (selector) => event.target.closest(selector);
  if (event.target === dialog()) return pressed === dialog() && !typed.dialog ? dialog().close() : undefined;
  if (event.target === palette()) return palette().close();
  if (on("[data-palette]")) return openPalette();
  if (on("[data-close]")) return dialog().open ? dialog().close() : history.back();
  const copied = on("[data-copy]");
  if (copied) return copy(copied);
  const saved = on("[data-save]");
  if (saved) return save(saved.dataset.save, saved.dataset.text);
  if (on("[data-theme-switch]")) return switchTheme();
  const menu = on("[data-menu]");
  if (menu) menu.setAttribute("aria-expanded", String(document.getElementById("navigation").classList.toggle("open")));
  if (on("[aria-disabled=true]")) event.preventDefault();
});

// -- no answer: what was typed stays, and nobody waits for what will not come -------------------------------

document.addEventListener("htmx:sendError", (event) => {
  const reading = event.detail.requestConfig.verb === "get";
  unanswered(reading
    ? "The server cannot be reached. Try again in a moment."
    : "The server did not answer, so it is not known whether this was done. What you typed is still here: look whether it was done before you repeat it.");
});
document.addEventListener("htmx:beforeSwap", () => document.querySelector(".unanswered")?.remove());

function unanswered(text) {
  document.querySelector(".unanswered")?.remove();
  const line = document.createElement("p");
  line.className = "trouble unanswered";
  line.setAttribute("role", "alert");
  line.textContent = text;
  (dialog().open ? dialog().querySelector(".dialog-body") : document.getElementById("main")).prepend(line);
}

// -- services: what "Create" would do with what is selected, or with the name that is typed ------------------

document.addEventListener("input", (event) => {
  const line = document.getElementById("does");
  const form = line?.closest("form");
  if (!form || !form.contains(event.target)) return;
  const typed = form.elements.new.value.trim();
  const selected = form.querySelector("[data-does]:checked");
  if (typed) line.textContent = line.dataset.new.replace("…", typed);
  else if (selected) line.textContent = selected.dataset.does;
});

// -- copying and saving -----------------------------------------------------------------------

function say(text) {
  const said = document.getElementById("said");
  if (said) said.textContent = text;
}

async function copy(button) {
  try {
    await navigator.clipboard.writeText(button.dataset.copy);
  } catch {
    // Over plain http to another host browsers have no clipboard; a selection still can be copied.
    const area = document.createElement("textarea");
    area.value = button.dataset.copy;
    button.parentElement.append(area);
    area.select();
    document.execCommand("copy");
    area.remove();
  }
  button.classList.add("done");
  say("Copied");
  setTimeout(() => button.classList.remove("done"), 1200);
}

function save(name, text) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type: "application/x-pem-file" }));
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
}

// -- files: read here, so that a form sends text and nothing else -------------------------------

// More than any chain, key or list that a form takes.
const MOST_READ = 256 * 1024;

document.addEventListener("change", async (event) => {
  const into = event.target.dataset?.into;
  const file = event.target.files?.[0];
  if (!into || !file) return;
  const field = document.getElementById(into);
  const told = event.target.parentElement.querySelector(".hint");
  const tell = (text, wrong) => {
    if (told) { told.textContent = text; told.classList.toggle("problem", wrong); }
    say(text);
  };
  if (file.size > MOST_READ) return tell(`${file.name} is not read: it is larger than 256 KiB`, true);
  const bytes = new Uint8Array(await file.arrayBuffer());
  // DER begins with a SEQUENCE of a long length.
  const text = bytes[0] === 0x30 && bytes[1] >= 0x80 ? asPem(bytes) : new TextDecoder().decode(bytes);
  field.value = event.target.multiple && field.value ? `${field.value.trim()}\n${text}` : text;
  field.dispatchEvent(new Event("input", { bubbles: true }));
  tell(`${file.name} is read`, false);
});

function asPem(bytes) {
  const text = btoa(Array.from(bytes, (byte) => String.fromCharCode(byte)).join(""));
  return `-----BEGIN CERTIFICATE-----\n${text.replace(/(.{64})/g, "$1\n").trim()}\n-----END CERTIFICATE-----\n`;
}

// -- times: in the viewer's zone, UTC on hover ---------------------------------------------------

const shown = {
  moment: new Intl.DateTimeFormat(undefined, {
    year: "numeric", month: "short", day: "numeric", hour: "2-digit", minute: "2-digit", second: "2-digit", timeZoneName: "short",
  }),
  day: new Intl.DateTimeFormat(undefined, { dateStyle: "medium" }),
};

function refresh(root) {
  for (const time of root.querySelectorAll("time[data-time]")) {
    const format = shown[time.dataset.time];
    if (format) time.textContent = format.format(new Date(time.dateTime));
  }
}

// -- theme: as the system has it, or as this browser was told --------------------------------------

function switchTheme() {
  const dark = document.documentElement.dataset.theme
    ? document.documentElement.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  const next = dark ? "light" : "dark";
  document.documentElement.dataset.theme = next;
  document.querySelector("meta[name=color-scheme]").content = next;
  document.cookie = `firstlight-theme=${next}; path=/; max-age=31536000; samesite=strict`;
}

// -- keys -----------------------------------------------------------------------------------------

document.addEventListener("keydown", (event) => {
  const typing = event.target.closest?.("input, textarea, select, [contenteditable]");
  if (event.key !== "/" || typing || event.ctrlKey || event.metaKey || event.altKey) return;
  const search = document.getElementById("search");
  if (!search) return;
  event.preventDefault();
  search.focus();
  search.select();
});

// -- go to: every view, what can be done, and a name looked for in the lists ------------------------

const palette = () => document.getElementById("palette");

function openPalette() {
  const box = palette();
  if (!box || document.querySelector("dialog[open]")) return;
  box.querySelector("input").value = "";
  sift();
  box.showModal();
}

function sift() {
  const text = palette().querySelector("input").value.trim();
  for (const link of palette().querySelectorAll("a")) {
    const found = link.dataset.find;
    link.parentElement.hidden = found ? !text : !link.textContent.toLowerCase().includes(text.toLowerCase());
    if (!found) continue;
    link.href = found + encodeURIComponent(text);
    link.querySelector("b").textContent = text;
  }
}

document.addEventListener("input", (event) => { if (event.target.id === "palette-text") sift(); });

document.addEventListener("keydown", (event) => {
  if (event.key.toLowerCase() === "k" && (event.ctrlKey || event.metaKey) && !event.altKey && !event.shiftKey && palette()) {
    event.preventDefault();
    return palette().open ? palette().close() : openPalette();
  }
  if (!palette()?.open || !["ArrowDown", "ArrowUp", "Enter"].includes(event.key)) return;
  const links = [...palette().querySelectorAll("li:not([hidden]) a")];
  const at = links.indexOf(document.activeElement);
  if (event.key === "Enter") {
    // From the text: the first that fits.
    if (at < 0 && links.length) { event.preventDefault(); links[0].click(); }
    return;
  }
  event.preventDefault();
  const next = event.key === "ArrowDown" ? at + 1 : at - 1;
  (links[next] ?? palette().querySelector("input")).focus();
});

document.addEventListener("DOMContentLoaded", () => {
  refresh(document);
  // A text that was refused is not stored.
  typed.editor = document.querySelector("#editor :is(.trouble, [aria-invalid])") !== null;
});
