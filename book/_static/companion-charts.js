/* Draws the charts of a page. Each is a <div class="companion-chart"> around its Vega-Lite specification as JSON.
   Vega is loaded from this site, on pages with a chart only; a chart is drawn when it comes near the window, and drawn
   again when the theme or its width changes, keeping what the reader chose. */
"use strict";

(() => {
  const library = new URL("vega-bundle.js", document.currentScript.src).href;
  const specification = 'script[type="application/vnd.vegalite.v6+json"]';
  const drawn = new Map(); // chart element → what vegaEmbed returned
  const queues = new Map(); // chart element → promise of its last drawing; drawings of one chart never overlap
  let loading;

  function loadVega() {
    loading ??= new Promise((resolve, reject) => {
      const script = document.createElement("script");
      script.src = library;
      script.onload = resolve;
      script.onerror = () => reject(new Error("the chart library did not load"));
      document.head.append(script);
    });
    return loading;
  }

  /* Colors of axes, legends and text follow the page; data colors are chosen to be seen on both backgrounds. */
  function pageConfig() {
    const style = getComputedStyle(document.documentElement);
    const text = style.getPropertyValue("--pst-color-text-base").trim() || "currentColor";
    const line = style.getPropertyValue("--pst-color-border").trim() || "#888888";
    return {
      background: "transparent",
      axis: { labelColor: text, titleColor: text, tickColor: text, domainColor: text, gridColor: line },
      legend: { labelColor: text, titleColor: text, symbolStrokeColor: text, symbolBaseFillColor: text },
      title: { color: text, subtitleColor: text },
      text: { color: text },
    };
  }

  /* Vega-Lite fits a single view to its container but not views below each other: give each a number of pixels. */
  function setWidths(spec, width) {
    const views = spec.vconcat ?? [spec];
    for (const view of views) {
      if (view.width === "container") view.width = width;
    }
    return spec;
  }

  function choices(chart) {
    const { result, names } = drawn.get(chart) ?? { names: [] };
    return names.map((name) => [name, result.view.signal(name)]);
  }

  /* What was clicked in legends: Vega keeps it in a data set for each selection. */
  function picked(chart) {
    const { result, stores } = drawn.get(chart) ?? { stores: [] };
    return stores.map((name) => [name, result.view.data(name)]);
  }

  async function draw(chart) {
    await loadVega();
    const spec = JSON.parse(chart.querySelector(specification).textContent);
    const kept = choices(chart);
    const clicked = picked(chart);
    const names = (spec.params ?? []).filter((param) => param.bind?.input).map((param) => param.name);
    for (const [name, value] of kept) spec.params.find((param) => param.name === name).value = value;
    const stores = (spec.params ?? []).filter((param) => param.bind === "legend").map((param) => `${param.name}_store`);
    const focused = chart.contains(document.activeElement) ? names.indexOf(document.activeElement.name) : -1;
    chart.querySelector(".companion-drawing")?.remove();
    drawn.get(chart)?.result.finalize();
    const drawing = chart.appendChild(document.createElement("div"));
    drawing.className = "companion-drawing";
    setWidths(spec, Math.max(200, chart.clientWidth - 52));
    const result = await window.vegaEmbed(drawing, spec, {
      renderer: "svg",
      actions: { export: true, source: false, compiled: false, editor: false },
      config: pageConfig(),
      tooltip: { theme: document.documentElement.dataset.theme === "dark" ? "dark" : "light" },
    });
    for (const [name, rows] of clicked) result.view.data(name, rows);
    if (clicked.some(([, rows]) => rows.length)) await result.view.runAsync();
    drawn.set(chart, { result, names, stores });
    arrange(drawing);
    chart.dataset.drawnWidth = chart.clientWidth;
    if (focused >= 0) drawing.querySelector(`[name="${names[focused]}"]`)?.focus();
  }

  /* The choices belong above the chart, also in the order of the Tab key; the menu needs a name; the description is
     said by the element around it all, once. */
  function arrange(drawing) {
    const form = drawing.querySelector(".vega-bindings");
    if (form) drawing.prepend(form);
    for (const name of ["role", "aria-label", "aria-roledescription"]) {
      drawing.querySelector(".chart-wrapper")?.removeAttribute(name);
    }
    drawing.querySelector("summary")?.setAttribute("aria-label", "Save this chart as an image");
  }

  function redraw(chart) {
    const next = (queues.get(chart) ?? Promise.resolve())
      .then(() => draw(chart))
      .catch((error) => {
        chart.dataset.failed = "true";
        console.error(`companion: a chart could not be drawn: ${error.message}`);
      });
    queues.set(chart, next);
    return next;
  }

  function start() {
    const charts = [...document.querySelectorAll(".companion-chart")].filter((c) => c.querySelector(specification));
    if (!charts.length) return;
    const nearby = new IntersectionObserver(
      (entries) => {
        for (const entry of entries.filter((e) => e.isIntersecting)) {
          nearby.unobserve(entry.target);
          redraw(entry.target);
        }
      },
      { rootMargin: "600px" },
    );
    charts.forEach((chart) => nearby.observe(chart));

    const redrawAll = () => drawn.forEach((_, chart) => redraw(chart));
    new MutationObserver(redrawAll).observe(document.documentElement, { attributeFilter: ["data-theme"] });
    let waiting;
    new ResizeObserver((entries) => {
      const changed = entries.some(({ target: c }) => drawn.has(c) && c.clientWidth !== Number(c.dataset.drawnWidth));
      if (!changed) return;
      clearTimeout(waiting);
      waiting = setTimeout(redrawAll, 150);
    }).observe(document.querySelector("main") ?? document.body);

    /* Paper is white, and has every chart. The browser's own command does not wait for them; the page's button does. */
    async function print() {
      const { theme } = document.documentElement.dataset;
      document.documentElement.dataset.theme = "light";
      await Promise.all(charts.map(redraw));
      window.print();
      document.documentElement.dataset.theme = theme;
    }
    document.querySelectorAll(".btn-download-pdf-button").forEach((button) => (button.onclick = print));
    window.addEventListener("beforeprint", () => charts.filter((c) => !drawn.has(c)).forEach(redraw));
  }

  if (document.readyState === "loading") document.addEventListener("DOMContentLoaded", start);
  else start();
})();
