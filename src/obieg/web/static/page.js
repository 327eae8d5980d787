// What pages do beside working without script: dialogs, single-key shortcuts, and which markup htmx may insert.
// Trusted Types: htmx puts pieces of our own pages into the page; script sinks stay closed.
if (window.trustedTypes) trustedTypes.createPolicy("default", { createHTML: (markup) => markup });

const SHORTCUTS = "obieg-shortcuts"; // "off": single keys do nothing (WCAG 2.1.4)

document.addEventListener("click", (event) => {
  const opener = event.target.closest("[data-dialog]");
  const dialog = opener && document.getElementById(opener.dataset.dialog);
  if (dialog?.showModal) {
    event.preventDefault(); // without script the opener leads to a page of its own
    dialog.showModal();
  }
  event.target.closest("[data-close]")?.closest("dialog")?.close();
  if (event.target.closest("[data-print]")) window.print();
});

// Arrows go through the links of a list, one in each row.
document.addEventListener("keydown", (event) => {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  const list = step && event.target.closest("[data-arrows]");
  if (!list) return;
  const links = [...list.querySelectorAll("a.go")];
  links[links.indexOf(event.target) + step]?.focus();
  event.preventDefault();
});

// On narrow screens what was chosen stands below the list.
document.addEventListener("htmx:afterSettle", (event) => {
  const shown = event.detail.requestConfig?.elt?.dataset.show;
  if (shown && innerWidth < 960) document.getElementById(shown)?.scrollIntoView();
});

// What takes script to be of use; whether single keys are on; how long something is still open.
const shortcuts = document.querySelector("[data-shortcuts]");
if (shortcuts) {
  shortcuts.checked = localStorage.getItem(SHORTCUTS) !== "off";
  shortcuts.addEventListener("change", () => localStorage.setItem(SHORTCUTS, shortcuts.checked ? "on" : "off"));
}
for (const element of document.querySelectorAll("[data-script]")) element.hidden = false;
const countdown = document.querySelector("[data-until]");
if (countdown) {
  const count = () => {
    const minutes = Math.ceil((Date.parse(countdown.dataset.until) - Date.now()) / 60000);
    countdown.querySelector("[data-minutes]").textContent = Math.max(minutes, 0);
    countdown.hidden = false;
  };
  count();
  setInterval(count, 10000);
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || localStorage.getItem(SHORTCUTS) === "off") return;
  if (event.target.closest("input, textarea, select, [contenteditable], dialog")) return;
  const named = (element) => element.getAttribute("aria-keyshortcuts").toLowerCase().split(" ");
  const found = [...document.querySelectorAll("[aria-keyshortcuts]")].find((e) => named(e).includes(event.key.toLowerCase()));
  if (!found) return;
  event.preventDefault();
  if (found.matches("input, select, textarea")) found.focus();
  else found.click();
});
