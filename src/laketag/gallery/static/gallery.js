"use strict";
// Every page works without this: it saves reloads, clicks and scrolling.

const form = document.getElementById("choice");
const number = new Intl.NumberFormat("en", { maximumSignificantDigits: 4 });
let asked = 0;
let isByKeys = false;
addEventListener("keydown", () => { isByKeys = true; }, true);
addEventListener("pointerdown", () => { isByKeys = false; }, true);

function address() {
  const pairs = [];
  for (const field of form.elements) {
    if (!field.name || (field.type === "checkbox" && !field.checked)) continue;
    const atEnd = field.type === "range" && Number(field.value) === Number(field.name.startsWith("min.") ? field.min : field.max);
    if (atEnd || (field.type !== "checkbox" && !field.value)) continue;
    pairs.push([field.name, field.value]);
  }
  return "/?" + new URLSearchParams(pairs);
}

async function fetched(url) {
  const answer = await fetch(url, { headers: { accept: "text/html" } });
  if (!answer.ok) throw new Error(answer.statusText);
  return new DOMParser().parseFromString(await answer.text(), "text/html");
}

async function apply(url, keep) {
  const turn = ++asked;
  const results = document.getElementById("results");
  results.setAttribute("aria-busy", "true");
  try {
    const page = await fetched(url);
    if (turn !== asked) return;
    if (!page.getElementById("results")) throw new Error("another page");
    results.replaceWith(page.getElementById("results"));
    freshen(page);
    const box = document.getElementById("where");
    const isWrong = page.getElementById("where").hasAttribute("aria-invalid");
    box.toggleAttribute("aria-invalid", isWrong);
    if (isWrong) box.setAttribute("aria-invalid", "true");
    if (keep) history.pushState(null, "", url);
    say(document.querySelector(".sum p")?.textContent ?? "");
    ready();
  } catch {
    if (turn === asked) location.assign(url);
  }
}

// A part that is exchanged is not read out; this one stays, and what is written into it is. A problem says itself.
function say(text) {
  document.getElementById("said").textContent = text.replace(/\s+/g, " ").trim();
}

// Only what is drawn is exchanged: the fields stay, with the focus on them.
function freshen(page) {
  for (const facet of document.querySelectorAll("[data-facet]")) {
    const other = [...page.querySelectorAll("[data-facet]")].find((one) => one.dataset.facet === facet.dataset.facet);
    if (!other) continue;
    const fresh = other.querySelectorAll("[data-fresh]");
    facet.querySelectorAll("[data-fresh]").forEach((part, at) => fresh[at] && part.replaceWith(fresh[at]));
  }
}

async function more(link) {
  const onward = link.closest("li");
  onward.setAttribute("aria-busy", "true");
  const page = await fetched(link.dataset.more);
  const items = [...page.body.querySelectorAll("li")];
  const hadFocus = onward.contains(document.activeElement);
  onward.replaceWith(...items);
  if (hadFocus) items[0].querySelector("a").focus();
  watch();
}

const seen = new IntersectionObserver((entries) => {
  for (const entry of entries) {
    if (!entry.isIntersecting) continue;
    seen.unobserve(entry.target);
    more(entry.target).catch(() => {});
  }
}, { rootMargin: "800px" });

function watch() {
  const link = document.querySelector(".onward a");
  if (link) seen.observe(link);
}

function ready() {
  for (const button of document.querySelectorAll("[data-copy]")) button.hidden = false;
  watch();
}

function slide(field) {
  const facet = field.closest("[data-facet]");
  const [low, high] = facet.querySelectorAll("input");
  // The two never pass each other.
  if (Number(low.value) > Number(high.value)) (field === low ? low : high).value = (field === low ? high : low).value;
  facet.querySelector("[data-low]").textContent = number.format(low.value);
  facet.querySelector("[data-high]").textContent = number.format(high.value);
}

if (form) {
  const version = document.getElementById("at");
  // Another version has other columns, and other filters.
  const isOther = () => version.value !== [...version.options].find((one) => one.defaultSelected)?.value;
  const submit = () => (isOther() ? location.assign(address()) : apply(address(), true));
  form.addEventListener("submit", (event) => { event.preventDefault(); submit(); });
  form.addEventListener("input", (event) => { if (event.target.type === "range") slide(event.target); });
  form.addEventListener("change", (event) => {
    // Keys change a list step by step: a page that loads at each would take the focus away. `Apply` loads it.
    if (event.target === version && isByKeys) return;
    if (event.target.name) submit();
  });
  window.addEventListener("popstate", () => location.reload());
  const button = document.querySelector("button.filters");
  const facets = document.getElementById("facets");
  document.documentElement.classList.add("scripted");
  const done = facets.querySelector(".done");
  const open = (isOpen) => {
    facets.classList.toggle("open", isOpen);
    button.setAttribute("aria-expanded", String(isOpen));
    (isOpen ? done : button).focus();
  };
  button.hidden = done.hidden = false;
  button.addEventListener("click", () => open(!facets.classList.contains("open")));
  done.addEventListener("click", () => open(false));
  facets.addEventListener("keydown", (event) => { if (event.key === "Escape" && facets.classList.contains("open")) open(false); });
}

for (const auto of document.querySelectorAll("form[data-auto]")) {
  auto.addEventListener("change", () => { if (!isByKeys) auto.requestSubmit(); });
}

for (const place of document.querySelectorAll("[data-load]")) {
  fetched(place.dataset.load).then((page) => {
    const loaded = page.getElementById("loaded");
    if (loaded) { loaded.removeAttribute("id"); place.replaceWith(loaded); }
  }).catch(() => {});
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("[data-copy]");
  if (!button) return;
  const field = document.getElementById(button.dataset.copy);
  field.select();
  try { await navigator.clipboard.writeText(field.value); } catch { document.execCommand("copy"); }
  button.textContent = "Copied";
  say("Copied");
});

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const sheet = document.querySelector(".take[open]");
  if (event.key === "Escape" && sheet) {
    sheet.open = false;
    sheet.querySelector("summary").focus();
    return;
  }
  if (event.target.matches("input:not([type=checkbox], [type=range]), select, textarea")) return;
  if (event.key === "/" && document.getElementById("where")) {
    event.preventDefault();
    document.getElementById("where").focus();
    return;
  }
  const link = document.querySelector(`[data-key="${CSS.escape(event.key)}"]`);
  if (link) { link.click(); return; }
  const card = event.target.closest?.(".card");
  if (card && event.key.startsWith("Arrow")) step(card, event);
});

function step(card, event) {
  const cards = [...card.parentElement.querySelectorAll(".card")];
  const across = cards.filter((one) => one.offsetTop === cards[0].offsetTop).length;
  const by = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -across, ArrowDown: across }[event.key];
  const to = cards[cards.indexOf(card) + by];
  if (to) { event.preventDefault(); to.querySelector("a").focus(); }
}

ready();
