"use strict";

// Zoom: every picture opens in one dialog; pictures that share prompt and noise open together.
(() => {
  const dialog = document.getElementById("zoom");
  const stage = dialog.querySelector(".zoom-pictures");
  const caption = dialog.querySelector(".zoom-caption");
  let stops = [];
  let position = 0;

  const stopsOf = (group) => {
    const tiles = [...document.querySelectorAll(`.tile[data-group="${group}"]`)];
    const seen = new Map();
    for (const tile of tiles) {
      const key = tile.dataset.twin || `alone-${seen.size}`;
      seen.set(key, [...(seen.get(key) || []), tile]);
    }
    return [...seen.values()];
  };

  const figureOf = (tile, many) => {
    const figure = document.createElement("figure");
    const image = tile.querySelector("img").cloneNode();
    image.className = tile.classList.contains("small") ? "small" : "";
    figure.append(image);
    if (many) {
      const label = document.createElement("figcaption");
      label.textContent = tile.dataset.caption;
      figure.append(label);
    }
    return figure;
  };

  const show = (index) => {
    position = (index + stops.length) % stops.length;
    const tiles = stops[position];
    stage.replaceChildren(...tiles.map((tile) => figureOf(tile, tiles.length > 1)));
    stage.dataset.count = tiles.length;
    const article = tiles[0].closest(".comparison");
    const text = article ? article.querySelector("h3").textContent : tiles[0].dataset.caption;
    caption.textContent = `${text} (${position + 1} of ${stops.length})`;
  };

  document.addEventListener("click", (event) => {
    const tile = event.target.closest("button.tile");
    if (!tile) return;
    stops = stopsOf(tile.dataset.group);
    show(stops.findIndex((tiles) => tiles.includes(tile)));
    dialog.showModal();
    dialog.querySelector('[data-zoom="close"]').focus();
  });
  dialog.addEventListener("click", (event) => {
    const action = event.target.dataset.zoom;
    if (event.target === dialog || action === "close") dialog.close();
    if (action === "previous") show(position - 1);
    if (action === "next") show(position + 1);
  });
  dialog.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") show(position - 1);
    if (event.key === "ArrowRight") show(position + 1);
  });
  dialog.addEventListener("close", () => {
    if (stops[position]) stops[position][0].focus();
    stage.replaceChildren();
  });
})();

// Charts: the nearest step's values follow the pointer or the arrow keys.
for (const chart of document.querySelectorAll("[data-chart]")) {
  const { lines } = JSON.parse(chart.dataset.chart);
  const readout = chart.querySelector(".readout");
  const longest = lines.reduce((a, b) => (b.points.length > a.points.length ? b : a)).points;
  let current = longest.length - 1;

  const element = (name, attributes) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    return made;
  };
  const scale = (text) => {
    const [low, high, start, end] = text.split(" ").map(Number);
    return (value) => start + ((value - low) / (high - low)) * (end - start);
  };
  const nearest = (points, step) =>
    points.reduce((best, p, i) => (Math.abs(p[0] - step) < Math.abs(points[best][0] - step) ? i : best), 0);

  const read = (index) => {
    current = Math.min(longest.length - 1, Math.max(0, index));
    const step = longest[current][0];
    const found = lines.map((line) => ({ ...line, point: line.points[nearest(line.points, step)] }));
    const values = found.map((line) => `${line.name.toLowerCase()} ${line.point[1].toFixed(4)}`);
    readout.textContent = `At step ${Math.round(step)}: ${values.join(", ")}`;
    for (const plot of chart.querySelectorAll("svg.plot")) {
      const x = scale(plot.dataset.x);
      const y = scale(plot.dataset.y);
      const [, , bottom, top] = plot.dataset.y.split(" ").map(Number);
      const cursor = plot.querySelector(".cursor");
      cursor.replaceChildren(
        element("line", { x1: x(step), x2: x(step), y1: top, y2: bottom }),
        ...found.map((line) =>
          element("circle", { class: line.style, cx: x(line.point[0]), cy: y(line.point[1]), r: 4 })),
      );
    }
  };
  for (const plot of chart.querySelectorAll("svg.plot")) {
    plot.addEventListener("pointermove", (event) => {
      const box = plot.getBoundingClientRect();
      const [low, high, start, end] = plot.dataset.x.split(" ").map(Number);
      const x = ((event.clientX - box.left) / box.width) * plot.viewBox.baseVal.width;
      read(nearest(longest, low + ((x - start) / (end - start)) * (high - low)));
    });
  }
  chart.addEventListener("keydown", (event) => {
    const stride = Math.max(1, Math.round(longest.length / 50));
    if (event.key !== "ArrowLeft" && event.key !== "ArrowRight") return;
    event.preventDefault();
    read(current + (event.key === "ArrowLeft" ? -stride : stride));
  });
}

// Samples over the steps: a slider shows one sheet at a time; a button shows all side by side.
for (const film of document.querySelectorAll(".film")) {
  const bar = film.querySelector(".film-bar");
  if (!bar) continue;
  const frames = [...film.querySelectorAll(".gallery li")];
  const slider = bar.querySelector("input");
  const shown = bar.querySelector("output");
  const button = bar.querySelector("button");

  const show = () => {
    frames.forEach((frame, index) => frame.classList.toggle("now", index === Number(slider.value)));
    const text = frames[Number(slider.value)].querySelector(".caption").textContent;
    shown.textContent = text;
    slider.setAttribute("aria-valuetext", text);
  };
  button.addEventListener("click", () => {
    const apart = film.classList.toggle("one");
    button.setAttribute("aria-pressed", String(!apart));
    slider.disabled = !apart;
  });
  slider.addEventListener("input", show);
  bar.hidden = false;
  film.classList.add("one");
  show();
}

// Contents: mark the section in view; a link into closed details opens them.
(() => {
  const links = new Map(
    [...document.querySelectorAll(".contents a")].map((link) => [link.hash.slice(1), link]));
  const mark = () => {
    let seen = null;
    for (const id of links.keys()) {
      const top = document.getElementById(id).getBoundingClientRect().top;
      if (seen === null || top < window.innerHeight * 0.35) seen = id;
    }
    for (const [id, link] of links) {
      if (id === seen) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
  };
  document.addEventListener("scroll", mark, { passive: true });
  mark();
})();
