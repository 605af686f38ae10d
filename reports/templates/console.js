"use strict";
// What is live is asked for again every few seconds and replaced where it changed. Without scripts there is a link.
(() => {
  const LEAST_REST = 4; // a look takes at most a fifth of the time, however large the run is
  const live = document.querySelector("[data-live]");
  const told = document.querySelector("[data-told]");
  const sources = new WeakMap();

  const dress = (place) => {
    for (const command of place.querySelectorAll(".copied")) {
      if (!navigator.clipboard || command.querySelector("button")) continue;
      const button = document.createElement("button");
      button.type = "button";
      button.textContent = "Copy";
      button.addEventListener("click", async () => {
        await navigator.clipboard.writeText(command.querySelector("code").textContent);
        button.textContent = "Copied";
        setTimeout(() => { button.textContent = "Copy"; }, 1500);
      });
      command.append(button);
    }
  };

  const take = (page) => {
    const found = page.querySelector("[data-live]");
    if (!found) throw new Error("another page");
    for (const part of [...live.children]) {
      const now = [...found.children].find((one) => one.dataset.part === part.dataset.part);
      if (!now) { part.remove(); continue; }
      if (sources.get(part) === now.outerHTML) continue;
      const source = now.outerHTML;
      const next = document.adoptNode(now);
      part.replaceWith(next);
      sources.set(next, source);
      dress(next);
    }
    for (const now of [...found.children]) {
      if ([...live.children].some((one) => one.dataset.part === now.dataset.part)) continue;
      const next = document.adoptNode(now);
      live.append(next);
      sources.set(next, next.outerHTML);
      dress(next);
    }
    live.dataset.live = found.dataset.live;
    document.title = page.title;
    told.textContent = page.querySelector("[data-told]").textContent;
  };

  const look = async () => {
    const began = performance.now();
    try {
      if (document.hidden) return;
      const answer = await fetch(location.href, { cache: "no-store", credentials: "same-origin" });
      if (answer.status === 503) {
        told.textContent = "The state can’t be read at the moment.";
        return;
      }
      if (!answer.ok) throw new Error(String(answer.status));
      take(new DOMParser().parseFromString(await answer.text(), "text/html"));
    } catch {
      told.textContent = "No answer. Is the console still running?";
    } finally {
      again(performance.now() - began);
    }
  };

  const again = (took) => {
    const seconds = Number(live.dataset.live);
    if (seconds) setTimeout(look, Math.max(seconds * 1000, LEAST_REST * took));
  };

  if (live) {
    for (const part of live.children) sources.set(part, part.outerHTML);
    again(0);
  }
  dress(document);
})();
