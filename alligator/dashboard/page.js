"use strict";
// The page is whole without this. Here it is kept fresh, while somebody looks at it.
(() => {
  const PERIOD = 2000, TOLD = 8000;
  const button = document.getElementById("live");
  const word = button.lastElementChild;
  const said = document.getElementById("said");
  let on = true, timer = 0;

  // Change `old` into `fresh` and keep what is the same: the focus, what is open, what is selected.
  // What has an id is never turned into something else, so that no button changes under a finger.
  function morph(old, fresh) {
    for (const { name } of [...old.attributes])
      if (!fresh.hasAttribute(name) && name !== "open") old.removeAttribute(name);
    for (const { name, value } of fresh.attributes)
      if (old.getAttribute(name) !== value) old.setAttribute(name, value);
    let at = old.firstChild;
    for (const child of [...fresh.childNodes]) {
      let same = null;
      if (child.id) same = [...old.children].find((one) => one.id === child.id);
      else if (at && !at.id && at.nodeName === child.nodeName) same = at;
      if (!same) { old.insertBefore(document.importNode(child, true), at); continue; }
      if (same === at) at = at.nextSibling;
      else old.insertBefore(same, at);
      if (same.nodeType === Node.ELEMENT_NODE) morph(same, child);
      else if (same.data !== child.data) same.data = child.data;
    }
    while (at) {
      const next = at.nextSibling;
      // A task that is chosen stays, though others have come before it.
      if (at.nodeName !== "LI" || !at.querySelector(".choose :checked")) at.remove();
      at = next;
    }
  }

  function show(text) {
    const fresh = new DOMParser().parseFromString(text, "text/html").querySelector("main");
    const main = document.querySelector("main");
    if (!fresh || main.querySelector("form:hover, form:active, details[open]")) return;
    const focused = document.activeElement && document.activeElement.id;
    if (fresh.dataset.say !== main.dataset.say) said.textContent = fresh.dataset.say;
    morph(main, fresh);
    if (focused && document.activeElement.id !== focused)
      document.getElementById(focused)?.focus({ preventScroll: true });
  }

  async function refresh(wanted) {
    const address = new URL(location.href);
    address.hash = "";
    address.searchParams.set("live", "1");
    try {
      const answer = await fetch(address, { redirect: "error", signal: AbortSignal.timeout(10000) });
      if (!answer.ok) throw new Error(answer.status);
      const text = await answer.text();
      if (!on && !wanted) return;
      show(text);
      if (on) state("Live", false);
    } catch {
      if (on) state("No answer", true);
    }
  }

  function state(text, away) {
    if (word.textContent !== text) word.textContent = text;
    button.classList.toggle("away", away);
  }

  async function tick() {
    clearTimeout(timer);
    if (!on || document.hidden) return;
    await refresh();
    clearTimeout(timer);
    if (on && !document.hidden) timer = setTimeout(tick, PERIOD);
  }

  button.addEventListener("click", () => {
    on = !on;
    button.setAttribute("aria-pressed", on);
    state(on ? "Live" : "Paused", false);
    tick();
  });
  document.addEventListener("visibilitychange", tick);

  // One box chooses all that are shown.
  document.addEventListener("change", ({ target }) => {
    const form = target.form;
    if (!form?.classList.contains("chosen")) return;
    const every = form.querySelector(".every input");
    const boxes = [...form.elements].filter((one) => one.type === "checkbox" && one !== every);
    if (target === every) boxes.forEach((box) => { box.checked = every.checked; });
    else every.checked = boxes.every((box) => box.checked);
  });

  // Details open and close without a new page, on which nothing would be chosen any more.
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[id^='open-']");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    history.pushState(null, "", link.href);
    refresh(true);
  });
  addEventListener("popstate", () => refresh(true));

  // What was done is told once, and not again when the page is loaded anew.
  const here = new URL(location.href);
  here.searchParams.delete("done");
  history.replaceState(null, "", here);
  const told = document.querySelector(".told");
  said.textContent = told?.textContent ?? "";
  if (told) setTimeout(() => told.remove(), TOLD);
  document.body.classList.add("scripted");
  document.getElementById("reload").hidden = true;
  button.hidden = false;
  timer = setTimeout(tick, PERIOD);
})();
