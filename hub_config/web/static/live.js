// Live pages: the page is fetched again and what changed is put in place.
//
// `data-live` marks a container. If its children have `data-key`, they are a list: known rows change
// where they stand; new ones come on top only while the reader is at the top and elsewhere, else a
// button offers them. Without keys the content is replaced, unless the focus or an open question is
// inside. `<main data-every="2">` says how often, in seconds; a page in the background waits.

const page = () => document.querySelector("main");

function replaceable(element) {
  return !element.contains(document.activeElement) && !element.querySelector("details.confirm[open]");
}

function mend(old, now) {
  if (old.innerHTML === now.innerHTML || !replaceable(old)) return;
  old.innerHTML = now.innerHTML;
}

function mendList(old, now) {
  const known = new Map([...old.children].map((row) => [row.dataset.key, row]));
  const fresh = [];
  for (const row of now.children) {
    const mine = known.get(row.dataset.key);
    if (mine) mend(mine, row);
    else fresh.push(row);
  }
  if (!fresh.length) return;
  const table = old.closest("table");
  const calm = table.getBoundingClientRect().top > 0 && !old.contains(document.activeElement);
  if (calm) {
    old.replaceChildren(...now.children);
  } else if (!page().querySelector(".fresh")) {
    const button = document.createElement("button");
    button.className = "fresh primary";
    button.textContent = old.dataset.fresh;
    button.addEventListener("click", () => location.reload());
    page().prepend(button);
  }
}

async function refresh() {
  const answer = await fetch(location.href, { redirect: "manual" });
  // The page has moved on: Lab answers, or the sign-in has ended. The browser goes there itself.
  if (answer.type === "opaqueredirect") return location.reload();
  if (!answer.ok) return;
  const now = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const old of document.querySelectorAll("[data-live]")) {
    const fresh = now.querySelector(`[data-live="${CSS.escape(old.dataset.live)}"]`);
    if (!fresh) continue;
    const keyed = (element) => element.firstElementChild?.dataset.key;
    if (keyed(old) && keyed(fresh)) mendList(old, fresh);
    else mend(old, fresh);
  }
  const every = now.querySelector("[data-every]");
  const here = document.querySelector("[data-every]");
  if (!every && here) here.removeAttribute("data-every");
}

export function keepLive() {
  const marked = () => document.querySelector("[data-every]");
  async function turn() {
    const element = marked();
    if (!element) return;
    if (!document.hidden) {
      try {
        await refresh();
      } catch {
        // The platform is away for a moment; the next turn finds it again.
      }
    }
    setTimeout(turn, 1000 * Number(marked()?.dataset.every || 5));
  }
  if (marked()) setTimeout(turn, 1000 * Number(marked().dataset.every));
}
