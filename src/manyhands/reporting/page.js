"use strict";
(() => {
  const data = JSON.parse(document.getElementById("cells").textContent);
  const tip = document.getElementById("tip");
  const words = (seconds) => {
    for (const [unit, name] of [[3600, "h"], [60, "min"], [1, "s"], [1e-3, "ms"]]) {
      if (seconds >= (unit > 1 ? 2 * unit : unit)) return `${+(seconds / unit).toPrecision(3)} ${name}`;
    }
    return `${+(seconds * 1e6).toPrecision(3)} µs`;
  };
  const at = (cells, x, slack) => {
    let low = 0, high = cells.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (cells[middle][0] <= x + slack) low = middle + 1; else high = middle;
    }
    const cell = cells[low - 1];
    return cell && x <= cell[0] + cell[1] + slack ? cell : null;
  };
  const told = (cell, length) => {
    const [x, width, first, busy, calls = 1, bad = 0, code = 0, attempt = 1] = cell;
    const lines = [];
    const label = calls === 1 ? data.labels[first] : undefined;
    if (calls === 1) {
      lines.push(first < 0 ? "one item" : `item ${first.toLocaleString("en")}${label ? `: ${label}` : ""}`);
      lines.push(`took ${words(busy)}${attempt > 1 ? `, attempt ${attempt}` : ""}`);
      if (code) lines.push(data.statuses[code]);
    } else {
      lines.push(`${calls.toLocaleString("en")} calls${first < 0 ? "" : `, from item ${first.toLocaleString("en")}`}`);
      lines.push(`busy ${words(busy)} in all, ${words(busy / calls)} each`);
      if (bad) lines.push(`${bad.toLocaleString("en")} without a value (${data.statuses[code]})`);
    }
    lines.push(`at ${words(x / 10000 * length)}`);
    return lines.join("\n");
  };
  document.querySelectorAll("svg.track").forEach((track, row) => {
    const title = track.querySelector("title");
    track.setAttribute("aria-label", title.textContent);
    title.remove();
    track.addEventListener("pointermove", (event) => {
      const box = track.getBoundingClientRect();
      const cell = at(data.rows[row], (event.clientX - box.left) / box.width * 10000, 2 / box.width * 10000);
      tip.hidden = !cell;
      if (!cell) return;
      tip.textContent = told(cell, data.lengths[row]);
      const size = tip.getBoundingClientRect();
      tip.style.left = `${Math.max(4, Math.min(event.clientX + 14, innerWidth - size.width - 8))}px`;
      tip.style.top = `${event.clientY + 18 + size.height > innerHeight ? event.clientY - size.height - 12 : event.clientY + 18}px`;
    });
    track.addEventListener("pointerleave", () => { tip.hidden = true; });
  });
  addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((each) => { each.open = true; }));
})();
