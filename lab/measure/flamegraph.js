// Zoom, search and reset for the flame graph this script stands in; the same in an SVG file and inside an HTML page.
(function () {
  var svg = document.currentScript.closest("svg");
  var all = Array.prototype.slice.call(svg.querySelectorAll(".frame"));
  var details = svg.querySelector(".details"), matched = svg.querySelector(".matched");
  var reset = svg.querySelector(".reset"), field = svg.querySelector("input");
  var left = +svg.dataset.left, width = +svg.dataset.width, letter = +svg.dataset.letter;
  var at = { l: 0, w: 1, d: 0 };

  all.forEach(function (g) {
    g.l = +g.dataset.l; g.w = +g.dataset.w; g.d = +g.dataset.d;
    g.name = g.dataset.name;
    g.rect = g.querySelector("rect"); g.label = g.querySelector("text");
    g.addEventListener("click", function () { zoom(g); });
    g.addEventListener("keydown", function (e) { if (e.key === "Enter") zoom(g); });
    g.addEventListener("mouseenter", function () { details.textContent = g.querySelector("title").textContent; });
    g.addEventListener("mouseleave", function () { details.textContent = ""; });
  });

  // the frames below and above `to` share the full width; all others are out of sight
  function zoom(to) {
    at = to;
    all.forEach(function (g) {
      var below = g.d < to.d && g.l <= to.l + 1e-9 && g.l + g.w >= to.l + to.w - 1e-9;
      var from = Math.max(0, (g.l - to.l) / to.w), until = Math.min(1, (g.l + g.w - to.l) / to.w);
      var seen = below || (g.d >= to.d && until - from > 1e-9);
      g.style.display = seen ? "" : "none";
      if (!seen) return;
      var x = left + from * width, w = Math.max((until - from) * width, 0.3);
      var room = Math.floor((w - 6) / letter);
      g.style.opacity = below ? 0.55 : 1;
      g.rect.setAttribute("x", x); g.rect.setAttribute("width", w);
      g.label.setAttribute("x", x + 3);
      g.label.textContent = room < 3 ? "" : g.name.length <= room ? g.name : g.name.slice(0, room - 1) + "\u2026";
    });
    reset.style.visibility = to.d > 0 ? "visible" : "hidden";
  }

  function search(text) {
    text = text.trim().toLowerCase();
    var share = 0, end = -1;
    all.forEach(function (g) { g.classList.toggle("hit", text !== "" && g.name.toLowerCase().indexOf(text) >= 0); });
    all.filter(function (g) { return g.classList.contains("hit"); })
      .sort(function (a, b) { return a.l - b.l || a.d - b.d; })
      .forEach(function (g) { if (g.l >= end - 1e-9) { share += g.w; end = g.l + g.w; } });
    svg.classList.toggle("searching", text !== "");
    matched.textContent = text === "" ? "" : "matched: " + (100 * share).toFixed(1) + " %";
  }

  reset.addEventListener("click", function () { zoom({ l: 0, w: 1, d: 0 }); });
  reset.addEventListener("keydown", function (e) { if (e.key === "Enter") zoom({ l: 0, w: 1, d: 0 }); });
  field.addEventListener("input", function () { search(field.value); });
  field.addEventListener("keydown", function (e) {
    if (e.key === "Escape") { field.value = ""; search(""); zoom({ l: 0, w: 1, d: 0 }); }
  });
})();
