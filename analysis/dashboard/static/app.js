/* What pages do beyond links: copy buttons, the choice of light or dark, and the address to cite. All of it is
   optional: without JavaScript every page works. */
"use strict";

const root = document.documentElement;

function readTheme() {
  try { return localStorage.getItem("theme"); } catch { return null; }
}

const chosen = readTheme();
if (chosen) root.dataset.theme = chosen;

function toggleTheme() {
  const dark = root.dataset.theme
    ? root.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
  try { localStorage.setItem("theme", root.dataset.theme); } catch { /* a private window keeps nothing */ }
}

async function copy(button) {
  const text = button.parentElement.querySelector("pre").textContent;
  try {
    await navigator.clipboard.writeText(text);
  } catch { // no clipboard outside a secure context: select the text, so that Ctrl-C takes it
    getSelection().selectAllChildren(button.parentElement.querySelector("pre"));
    return;
  }
  const before = button.textContent;
  button.textContent = "Copied";
  setTimeout(() => { button.textContent = before; }, 1500);
}

document.addEventListener("click", (event) => {
  const copying = event.target.closest("[data-copy]");
  if (copying) copy(copying);
  if (event.target.closest("[data-theme-toggle]")) toggleTheme();
});

/* The address bar always names the snapshot, so that what is copied from it can be cited. */
document.addEventListener("DOMContentLoaded", () => {
  const cite = document.body.dataset.cite;
  if (cite && !location.search.includes("snapshot=")) history.replaceState(history.state, "", cite + location.hash);
});

/* A choice takes effect at once; without JavaScript the button does it. */
document.addEventListener("change", (event) => {
  const form = event.target.closest("form.choose");
  if (form && event.target.matches("select, input[type=checkbox]")) form.requestSubmit();
});

/* Whoever clicks again while a page is on its way wants the later one, whichever answer comes first. htmx is not told
   of the end of the earlier request, which it would call an error; the element that asked is replaced anyway. */
let onItsWay;
document.addEventListener("htmx:beforeRequest", (event) => {
  if (!event.detail.boosted) return;
  if (onItsWay) {
    onItsWay.onabort = null;
    onItsWay.abort();
  }
  onItsWay = event.detail.xhr;
});
