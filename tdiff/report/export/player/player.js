"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const sections = [...document.querySelectorAll(".panels section")];
  const scrub = document.getElementById("scrub");
  const play = document.getElementById("play");
  const about = document.getElementById("about");
  const alternatives = document.getElementById("alternatives");
  const help = about.textContent;
  const shades = document.querySelectorAll(".legend span").length;
  const masked = -1, given = 2;
  const shadeOf = (value) => "c" + Math.min(Math.floor(value * shades), shades - 1);
  let pointed = null;

  // What is known of the position under the pointer, after the step that is shown.
  function point() {
    const [text, predictions] = pointed ? pointed() : [help, []];
    about.textContent = text;
    alternatives.replaceChildren(...predictions);
  }

  // One player for each recording: it shows the state after a number of model calls.
  const players = data.recordings.map((recording, number) => {
    const spans = [...sections[number].querySelectorAll(".canvas span")];
    // A mask is as wide as its final token, so that the text stays in place while it resolves.
    const masks = recording.masks;
    const counters = sections[number].querySelector(".counters");
    const known = new Map(recording.given);
    const confidence = new Array(recording.cells), texts = new Array(recording.cells), since = new Array(recording.cells);
    const guesses = new Array(recording.cells);
    let shown = 0, fresh = [];

    function begin() {
      for (let position = 0; position < recording.cells; position++) {
        const isGiven = known.has(position);
        texts[position] = isGiven ? known.get(position) : "";
        confidence[position] = isGiven ? given : masked;
        since[position] = 0;
        guesses[position] = null;
        draw(position, "");
      }
      shown = 0;
    }

    function draw(position, mark) {
      const value = confidence[position], span = spans[position];
      span.textContent = value === masked ? (mark === "r" ? masks[position].replaceAll("█", "▒") : masks[position]) : texts[position];
      const shade = value === given ? "g" : shadeOf(value);
      span.className = value === masked ? (mark === "r" ? "r" : "m") : mark === "new" ? shade + " new" : shade;
    }

    function apply(step) {
      for (const position of fresh) draw(position, "");
      for (const [position, ...guess] of step.guesses || []) guesses[position] = guess;
      fresh = step.cells.map(([position, text, value]) => {
        texts[position] = text;
        confidence[position] = value;
        since[position] = step.index;
        draw(position, value === masked ? "r" : "new");
        return position;
      });
    }

    function show(calls) {
      if (shown && recording.steps[shown - 1].calls > calls) begin();
      while (shown < recording.steps.length && recording.steps[shown].calls <= calls) apply(recording.steps[shown++]);
      counters.textContent = shown ? recording.steps[shown - 1].counters : recording.begin;
    }

    function describe(position) {
      const value = confidence[position];
      if (value === given) return `position ${position} · given`;
      if (value === masked) return `position ${position} · masked` + (since[position] ? `, remasked in step ${since[position]}` : "");
      return `position ${position} · ${JSON.stringify(texts[position])} · confidence ${value.toFixed(3)} · step ${since[position]}`;
    }

    // The predicted tokens of a position with their probabilities; the one that it holds is bold.
    function predictions(position) {
      if (!guesses[position]) return [];
      const [entropy, ...pairs] = guesses[position], items = [];
      for (let n = 0; n < pairs.length; n += 2) {
        const item = document.createElement("span"), text = recording.tokens[pairs[n]];
        item.className = shadeOf(pairs[n + 1]) + (confidence[position] !== masked && text === texts[position] ? " new" : "");
        item.textContent = `${JSON.stringify(text)} ${pairs[n + 1].toFixed(2)}`;
        items.push(item);
      }
      return [...items, `entropy ${entropy.toFixed(2)} nats`];
    }

    spans.forEach((span, position) => {
      span.addEventListener("mouseenter", () => { pointed = () => [describe(position), predictions(position)]; point(); });
      span.addEventListener("mouseleave", () => { pointed = null; point(); });
    });
    begin();
    return { show, last: recording.steps.length ? recording.steps[recording.steps.length - 1].calls : 0 };
  });

  const last = Math.max(...players.map((player) => player.last));
  let calls = 0, timer = 0;
  scrub.max = last;
  document.querySelector(".controls").hidden = false;
  alternatives.hidden = !data.recordings.some((recording) => recording.tokens.length);

  function show(value) {
    calls = Math.max(0, Math.min(last, value));
    scrub.value = calls;
    for (const player of players) player.show(calls);
    point();
  }

  function stop() {
    clearTimeout(timer);
    timer = 0;
    play.textContent = "play";
  }

  function tick() {
    if (calls >= last) show(0); else show(calls + 1);
    timer = setTimeout(tick, calls >= last ? 1000 * data.hold : 1000 / data.fps);
  }

  function start() {
    play.textContent = "pause";
    tick();
  }

  play.addEventListener("click", () => (timer ? stop() : start()));
  scrub.addEventListener("input", () => { stop(); show(Number(scrub.value)); });
  document.addEventListener("keydown", (event) => {
    const moves = { ArrowLeft: () => calls - 1, ArrowRight: () => calls + 1, Home: () => 0, End: () => last };
    if (event.key === " " && event.target !== play) { event.preventDefault(); timer ? stop() : start(); }
    else if (moves[event.key]) { event.preventDefault(); stop(); show(moves[event.key]()); }
  });
  if (matchMedia("(prefers-reduced-motion: reduce)").matches) { show(last); stop(); } else start();
})();
