// On a rendered dashboard: keep its own address, and say so when its kernel is gone.
(function () {
  const { progress, address } = JSON.parse(document.getElementById("cu-view").textContent);
  history.replaceState(null, "", address);
  const note = document.getElementById("cu-ended");
  async function check() {
    if (document.hidden || !note.hidden) return;
    try {
      const answer = await fetch(`${progress}?after=-1`, { headers: { accept: "application/json" } });
      if (answer.status === 404 || answer.status === 403) note.hidden = false;
    } catch {
      // Away for a moment: the next check will tell.
    }
  }
  document.addEventListener("visibilitychange", check);
  setInterval(check, 15000);
  document.getElementById("cu-reload").addEventListener("click", () => location.reload());
})();
