"use strict";
// The page is complete without this script, which refreshes it while it is visible.
(() => {
  const PERIOD = 2000, NOTICE = 8000;
  const button = document.getElementById("live");
  const label = button.lastElementChild;
  const status = document.getElementById("status");
  let on = true, timer = 0;

  // Change `old` into `fresh`, but keep the focus, open details and the selection.
  // An element with an id never becomes another one, so no button changes just before a click.
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
      // A task that is chosen stays, even if the list does not have it any more.
      if (at.nodeName !== "LI" || !at.querySelector(".choose :checked")) at.remove();
      at = next;
    }
  }

  function show(text) {
    const fresh = new DOMParser().parseFromString(text, "text/html").querySelector("main");
    const main = document.querySelector("main");
    if (!fresh || main.querySelector("form:hover, form:active, details[open]")) return;
    const focused = document.activeElement && document.activeElement.id;
    if (fresh.dataset.status !== main.dataset.status) status.textContent = fresh.dataset.status;
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
      if (on) showState("Live", false);
    } catch {
      if (on) showState("No answer", true);
    }
  }

  function showState(text, offline) {
    if (label.textContent !== text) label.textContent = text;
    button.classList.toggle("offline", offline);
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
    showState(on ? "Live" : "Paused", false);
    tick();
  });
  document.addEventListener("visibilitychange", tick);

  // One checkbox chooses all tasks that are shown.
  document.addEventListener("change", ({ target }) => {
    const form = target.form;
    if (!form?.classList.contains("chosen")) return;
    const all = form.querySelector(".all input");
    const boxes = [...form.elements].filter((one) => one.type === "checkbox" && one !== all);
    if (target === all) boxes.forEach((box) => { box.checked = all.checked; });
    else all.checked = boxes.every((box) => box.checked);
  });

  // Details open and close without loading the page again, which would clear the checkboxes.
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[id^='open-']");
    if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
    event.preventDefault();
    history.pushState(null, "", link.href);
    refresh(true);
  });
  addEventListener("popstate", () => refresh(true));

  // The notice of an action is shown once, and not again when the page is reloaded.
  const here = new URL(location.href);
  here.searchParams.delete("done");
  history.replaceState(null, "", here);
  const notice = document.querySelector(".notice-bar");
  status.textContent = notice?.textContent ?? "";
  if (notice) setTimeout(() => notice.remove(), NOTICE);
  document.body.classList.add("scripted");
  document.getElementById("reload").hidden = true;
  button.hidden = false;
  timer = setTimeout(tick, PERIOD);
})();
