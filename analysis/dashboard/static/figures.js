/* Draws the figures of a page. Each is a Vega-Lite specification in a script element that nothing runs; Vega makes of
   it the SVG that the report has too. Its expressions are interpreted, not evaluated, as the content policy demands.
   The libraries are loaded with the first figure. */
"use strict";

const HERE = "http://dashboard.invalid"; // stands for this server, see drawing.py
const LIBRARIES = ["vega", "vega-lite", "vega-interpreter"];

let libraries;

function loadLibraries() {
  libraries ??= LIBRARIES.reduce((before, name) => before.then(() => new Promise((done, failed) => {
    const script = document.createElement("script");
    script.src = `/static/vega/${name}.min.js`;
    script.onload = done;
    script.onerror = () => failed(new Error(`${script.src} cannot be loaded`));
    document.head.append(script);
  })), Promise.resolve());
  return libraries;
}

async function svgOf(specification) {
  const whole = vegaLite.compile(specification).spec;
  const view = new vega.View(vega.parse(whole, null, {ast: true}), {
    expr: vegaInterpreter.expressionInterpreter, renderer: "none", logLevel: vega.Warn,
  });
  try {
    return await view.toSVG();
  } finally {
    view.finalize();
  }
}

/* The picture for a page of any colour and width: without its white ground; names told apart from those of other
   figures; marks say their values when pointed at; links stay in the tab. */
function fitted(text, prefix, caption) {
  const svg = new DOMParser().parseFromString(text, "image/svg+xml").documentElement;
  svg.querySelector(":scope > rect").remove();
  svg.setAttribute("class", "figure");
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", caption);
  svg.removeAttribute("height");
  for (const element of svg.querySelectorAll("[id]")) element.id = `${prefix}-${element.id}`;
  for (const name of ["clip-path", "fill", "stroke"]) {
    for (const element of svg.querySelectorAll(`[${name}^="url(#"]`)) {
      element.setAttribute(name, element.getAttribute(name).replace("url(#", `url(#${prefix}-`));
    }
  }
  for (const mark of svg.querySelectorAll(":is(path, text, line, image)[aria-label]")) {
    const title = document.createElementNS(svg.namespaceURI, "title");
    title.textContent = mark.getAttribute("aria-label");
    mark.prepend(title);
  }
  const xlink = "http://www.w3.org/1999/xlink";
  for (const link of svg.querySelectorAll("a")) {
    link.setAttribute("href", link.getAttributeNS(xlink, "href").replace(HERE, ""));
    link.removeAttributeNS(xlink, "href");
    for (const name of ["target", "rel"]) link.removeAttribute(name);
  }
  return document.importNode(svg, true);
}

async function drawOne(figure) {
  figure.classList.remove("undrawn"); // not twice, whoever asks next
  figure.classList.add("drawing");
  const specification = figure.querySelector("script[type='application/json']");
  try {
    await loadLibraries();
    const svg = fitted(
      await svgOf(JSON.parse(specification.textContent)),
      figure.dataset.prefix,
      figure.querySelector("figcaption").textContent,
    );
    specification.replaceWith(svg);
    htmx.process(svg); // its links are followed as all others are
  } catch (error) {
    specification.replaceWith(`This figure cannot be drawn (${error.message}); its numbers are in the table.`);
    throw error;
  } finally {
    figure.classList.remove("drawing");
  }
}

function drawAll(within) {
  for (const figure of within.querySelectorAll("figure.undrawn")) drawOne(figure);
}

document.addEventListener("DOMContentLoaded", () => drawAll(document));
document.addEventListener("htmx:afterSettle", (event) => drawAll(event.target.parentElement ?? document));
