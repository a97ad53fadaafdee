"use strict";
(() => {
  const map = document.getElementById("map");
  const svg = map.querySelector("svg");
  const tip = document.getElementById("tip");
  const [thumb, label] = tip.children;
  const { points, classes, tile, columns, width } = JSON.parse(document.getElementById("points").textContent);
  const zoom = Math.max(1, Math.floor(96 / Math.max(...tile)));
  thumb.style.width = `${zoom * tile[0]}px`;
  thumb.style.height = `${zoom * tile[1]}px`;
  thumb.style.backgroundSize = `${zoom * columns * tile[0]}px auto`;
  const ring = document.createElementNS("http://www.w3.org/2000/svg", "circle");
  ring.setAttribute("class", "ring");
  ring.setAttribute("r", 28);
  let current = -1;

  const hide = () => {
    current = -1;
    tip.classList.remove("shown");
    ring.remove();
  };

  const show = (i) => {
    if (i === current) return;
    current = i;
    const [x, y, kind, image] = points[i];
    ring.setAttribute("cx", x);
    ring.setAttribute("cy", y);
    svg.append(ring);
    const column = i % columns, row = Math.floor(i / columns);
    thumb.style.backgroundPosition = `${-zoom * column * tile[0]}px ${-zoom * row * tile[1]}px`;
    label.textContent = `${classes[kind]} (test image ${image})`;
    tip.classList.add("shown");
    const box = svg.getBoundingClientRect(), around = map.getBoundingClientRect();
    const scale = box.width / width;
    const px = box.left - around.left + x * scale, py = box.top - around.top + y * scale;
    const left = px + 14 + tip.offsetWidth <= around.width ? px + 14 : px - 14 - tip.offsetWidth;
    const top = Math.min(py + 14, around.height - tip.offsetHeight);
    tip.style.left = `${Math.max(0, left)}px`;
    tip.style.top = `${Math.max(0, top)}px`;
  };

  const under = (event) => {
    const box = svg.getBoundingClientRect();
    const scale = width / box.width;
    const x = (event.clientX - box.left) * scale, y = (event.clientY - box.top) * scale;
    // A finger is less exact than a mouse.
    let reach = (event.pointerType === "touch" ? 28 : 14) * scale, best = -1;
    points.forEach((point, i) => {
      const distance = Math.hypot(point[0] - x, point[1] - y);
      if (distance < reach) [reach, best] = [distance, i];
    });
    if (best < 0) hide();
    else show(best);
  };

  const towards = (dx, dy) => {
    let best = current, least = Infinity;
    const [x, y] = points[current];
    points.forEach((point, i) => {
      const along = (point[0] - x) * dx + (point[1] - y) * dy;
      const beside = Math.abs((point[0] - x) * dy) + Math.abs((point[1] - y) * dx);
      if (along > 0 && beside <= along && along + 2 * beside < least) {
        [least, best] = [along + 2 * beside, i];
      }
    });
    return best;
  };

  const last = points.length - 1;
  const keys = {
    ArrowLeft: () => towards(-1, 0),
    ArrowRight: () => towards(1, 0),
    ArrowUp: () => towards(0, -1),
    ArrowDown: () => towards(0, 1),
    PageDown: () => Math.min(current + 1, last),
    PageUp: () => Math.max(current - 1, 0),
    Home: () => 0,
    End: () => last,
  };
  if (last >= 0) {
    document.getElementById("map-keys").hidden = false;
    svg.addEventListener("pointermove", under);
    svg.addEventListener("pointerdown", under);
    svg.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && hide());
    map.addEventListener("focus", () => map.matches(":focus-visible") && current < 0 && show(0));
    map.addEventListener("blur", hide);
    map.addEventListener("keydown", (event) => {
      if (event.key === "Escape") return hide();
      if (!(event.key in keys) || event.ctrlKey || event.metaKey || event.altKey) return;
      event.preventDefault();
      show(current < 0 ? 0 : keys[event.key]());
    });
  }

  for (const button of document.querySelectorAll("button[data-copy]")) {
    const source = document.getElementById(button.dataset.copy);
    const name = button.textContent;
    button.hidden = false;
    button.addEventListener("click", async () => {
      const text = source.rows
        ? [...source.rows].map((row) => [...row.cells].map((cell) => cell.textContent).join("\t")).join("\n")
        : source.textContent;
      try {
        await navigator.clipboard.writeText(text);
        button.textContent = "Copied";
      } catch {
        getSelection().selectAllChildren(source);
        button.textContent = document.execCommand("copy") ? "Copied" : "Selected: press Ctrl+C";
      }
      setTimeout(() => (button.textContent = name), 2000);
    });
  }
})();
