// Ask what is being done until the page is there, then go to it.
const { progress, page } = JSON.parse(document.getElementById("cu-instructions").textContent);
const doing = document.getElementById("cu-doing");
const seconds = document.getElementById("cu-seconds");
const bar = document.getElementById("cu-progress");
const begun = performance.now();
setInterval(() => (seconds.textContent = `${Math.round((performance.now() - begun) / 1000)} s`), 1000);

async function wait() {
  let version = -1, failures = 0;
  for (;;) {
    let answer;
    try {
      answer = await fetch(`${progress}?after=${version}`, { headers: { accept: "application/json" } });
    } catch {
      answer = null; // the network, or the platform restarting
    }
    if (answer?.ok) {
      const now = await answer.json();
      failures = 0;
      version = now.version;
      doing.textContent = now.doing;
      if (now.cells) {
        bar.max = now.cells;
        bar.value = Math.max(0, now.cell - 1);
      }
      if (now.state === "ready" || now.state === "failed") {
        // The address stays the dashboard's: a reload is a new view, "back" is where one came from.
        location.replace(page);
        return;
      }
    } else if ((answer && answer.status < 500) || ++failures > 20) {
      doing.textContent = "This view has ended before it was ready. Reload the page to open the dashboard again.";
      bar.hidden = true;
      return;
    } else {
      await new Promise((done) => setTimeout(done, 1000));
    }
  }
}
wait();
