// A run's log: what is new is appended, and the end stays in sight while the reader is there.

async function follow(pre) {
  let after = Number(pre.dataset.after);
  for (;;) {
    let ended = false;
    try {
      const answer = await fetch(`${pre.dataset.log}?after=${after}`);
      if (answer.ok) {
        const said = await answer.json();
        const atEnd = pre.scrollHeight - pre.scrollTop - pre.clientHeight < 40;
        if (said.text && after === 0) pre.textContent = "";
        pre.append(said.text);
        if (said.text && atEnd) pre.scrollTop = pre.scrollHeight;
        if (said.next !== after) {
          after = said.next;
          continue;
        }
        ended = said.ended;
      }
    } catch {
      // The platform is away for a moment; the next turn finds it again.
    }
    if (ended) return;
    await new Promise((done) => setTimeout(done, 1000));
  }
}

export function followLogs() {
  for (const pre of document.querySelectorAll("pre[data-log]")) {
    pre.scrollTop = pre.scrollHeight;
    follow(pre);
  }
}
