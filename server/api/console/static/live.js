// The start page stays live: every event is its moving part, drawn by the server. With a pause.
"use strict";

(() => {
  const part = document.getElementById("live");
  const state = document.getElementById("live-state");
  const button = document.getElementById("live-pause");
  let source = null;
  let verdict = part.querySelector("#verdict-title").firstChild?.nextSibling?.textContent ?? "";

  const show = (text) => { if (state.textContent !== text) state.textContent = text; };

  function replace(html) {
    const open = new Set([...part.querySelectorAll("details[open][id]")].map((one) => one.id));
    const focused = document.activeElement?.closest("#live [href]")?.getAttribute("href");
    const guide = document.getElementById("first-steps");
    part.innerHTML = html;
    for (const id of open) document.getElementById(id)?.setAttribute("open", "");
    if (focused) part.querySelector(`[href="${CSS.escape(focused)}"]`)?.focus();
    refresh(part);
    // A step of the guide is done: it is drawn again, and left alone while nothing happens to it.
    const mark = part.querySelector("#verdict").dataset.steps;
    if (guide && guide.dataset.mark !== mark) htmx.trigger(guide, "progressed");
    const now = part.querySelector("#verdict").classList.contains("needs") ? "Attention required" : "All clear";
    if (verdict && now !== verdict) say(now);
    verdict = now;
  }

  function listen() {
    source = new EventSource(part.dataset.live);
    source.onmessage = (event) => { replace(event.data); show("live"); };
    source.onopen = () => show("live");
    source.onerror = () => show("no connection, trying again");
    source.addEventListener("away", () => show("the database is away"));
    source.addEventListener("ended", () => { pause(); show("signed out"); });
  }

  function pause() {
    source?.close();
    source = null;
  }

  button.hidden = false;
  button.addEventListener("click", () => {
    const paused = source !== null;
    if (paused) { pause(); show("paused"); } else listen();
    button.setAttribute("aria-pressed", String(paused));
    button.textContent = paused ? "Go on" : "Pause";
  });
  document.addEventListener("visibilitychange", () => {
    if (button.getAttribute("aria-pressed") === "true") return;
    // Nobody looks: nothing is drawn.
    if (document.hidden) pause(); else if (source === null) listen();
  });
  addEventListener("pagehide", pause);
  listen();
})();
