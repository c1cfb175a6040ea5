// Follow a job: server-sent events, and plain questions every few seconds where those do not get through.

/** Call `tell(view)` with each state of the job at `address`, until it is final. */
export function follow(address, tell) {
  let source;
  let timer;
  let over = false;
  const heard = (view) => {
    over = view.final;
    tell(view);
    if (over) { source?.close(); clearTimeout(timer); }
  };
  const ask = async () => {
    try {
      const answer = await fetch(`${address}.json`, { headers: { Accept: "application/json" } });
      if (answer.ok) heard(await answer.json());
    } catch { /* the studio restarts; the next question will tell */ }
    if (!over) timer = setTimeout(ask, 3000);
  };
  const listen = () => {
    clearTimeout(timer);
    source = new EventSource(`${address}/events`);
    source.onmessage = (event) => heard(JSON.parse(event.data));
    source.onerror = () => { source.close(); if (!over) { clearTimeout(timer); timer = setTimeout(ask, 1000); } };
  };
  // A page in the background holds no connection: browsers allow only six to one host.
  document.addEventListener("visibilitychange", () => {
    if (over) return;
    source?.close();
    clearTimeout(timer);
    if (document.visibilityState === "visible") listen(); else timer = setTimeout(ask, 3000);
  });
  listen();
}
