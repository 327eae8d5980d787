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
