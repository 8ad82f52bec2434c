// The portal's one script. Everything on a page reads without it; this makes pages live.
import { keepLive } from "./live.js";
import { followLogs } from "./log.js";

// Colours: remembered in a cookie, so that the server renders the next page right at once.
for (const form of document.querySelectorAll("[data-theme-form]")) {
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const theme = event.submitter.value;
    document.documentElement.dataset.theme = theme;
    const path = form.getAttribute("action").replace(/theme$/, "");
    document.cookie = `cuaderno-theme=${theme}; path=${path}; max-age=31536000; samesite=lax`;
    for (const button of form.querySelectorAll("button"))
      button.setAttribute("aria-pressed", String(button === event.submitter));
  });
}

// One menu or question at a time; Escape and a click elsewhere close it.
const floating = () => document.querySelectorAll("details.menu[open], details.confirm[open]");
document.addEventListener("click", (event) => {
  for (const details of floating()) if (!details.contains(event.target)) details.open = false;
});
document.addEventListener("keydown", (event) => {
  if (event.key !== "Escape") return;
  for (const details of floating()) {
    details.open = false;
    details.querySelector("summary").focus();
  }
});

// Lists: arrow up and down go from row to row, Enter opens (a link has the focus), a click too.
const rowLink = (row) => row.querySelector(".cell-main a");
document.addEventListener("keydown", (event) => {
  if (event.key !== "ArrowDown" && event.key !== "ArrowUp") return;
  const active = document.activeElement;
  if (active.closest("input, select, textarea, summary, pre")) return;
  const list = active.closest("[data-list]") ?? (active === document.body || active.id === "main"
    ? document.querySelector("[data-list]") : null);
  if (!list) return;
  const rows = [...list.querySelectorAll("tr[data-row]")];
  const at = rows.indexOf(active.closest("tr[data-row]"));
  const next = rows[at < 0 ? 0 : at + (event.key === "ArrowDown" ? 1 : -1)];
  if (next && rowLink(next)) {
    event.preventDefault();
    rowLink(next).focus();
  }
});
document.addEventListener("click", (event) => {
  const row = event.target.closest("tr[data-row]");
  if (!row || event.target.closest("a, button, summary, details, input, select")) return;
  if (!String(getSelection())) rowLink(row)?.click();
});

// A form is sent once.
document.addEventListener("submit", (event) => {
  if (event.defaultPrevented) return;
  setTimeout(() => {
    for (const button of event.target.querySelectorAll("button")) button.disabled = true;
  });
});
addEventListener("pageshow", () => {
  for (const button of document.querySelectorAll("form button:disabled")) button.disabled = false;
});

// A select with this mark sends its form at once.
for (const select of document.querySelectorAll("select[data-auto]"))
  select.addEventListener("change", () => select.form.requestSubmit());

// Times ago grow while the page is open.
function ago(seconds) {
  for (const [size, unit] of [[86400, "d"], [3600, "h"], [60, "min"]])
    if (seconds >= size) return `${Math.floor(seconds / size)} ${unit} ago`;
  return seconds < 5 ? "just now" : `${Math.floor(seconds)} s ago`;
}
setInterval(() => {
  for (const time of document.querySelectorAll("time[data-ago]"))
    time.textContent = ago(Math.max(0, (Date.now() - Date.parse(time.dateTime)) / 1000));
}, 5000);

keepLive();
followLogs();
