// What is asked of the server, and the queue of steps: a step is kept here until the server has
// written it down, over reloads and while the server is away.

export const who = new URLSearchParams(location.search).get("who") || "";

export class Refused extends Error {}
export class Locked extends Error {}

async function answered(response) {
  if (response.status === 403) throw new Locked("open the address that label.py printed");
  const body = await response.json();
  if (!response.ok) throw new Refused(body.error || response.statusText);
  return body;
}

export async function get(path, asked) {
  const address = path + "?" + new URLSearchParams({ who, ...asked });
  return answered(await fetch(address));
}

export async function act(desk, entry) {
  const body = JSON.stringify({ ...entry, who, d: desk });
  const headers = { "Content-Type": "application/json" };
  return answered(await fetch("/api/act", { method: "POST", headers, body }));
}

export function pictureAddress(desk, video, frame, size) {
  return "/picture?" + new URLSearchParams({ d: desk, v: video, k: frame, s: size });
}

export class Queue {
  // tell(state, message): "saved", "saving", "offline", "locked" or "refused"
  constructor(tell, stepped) {
    this.tell = tell;
    this.stepped = stepped;
    this.key = "claus steps of " + who;
    this.waiting = JSON.parse(localStorage.getItem(this.key) || "[]");
    this.sending = false;
    addEventListener("beforeunload", (event) => {
      if (this.waiting.length) event.preventDefault();
    });
    this.send();
  }

  get empty() {
    return !this.waiting.length;
  }

  push(desk, entry) {
    this.waiting.push([desk, entry]);
    this.keep();
    this.send();
  }

  keep() {
    try {
      localStorage.setItem(this.key, JSON.stringify(this.waiting));
    } catch {
      // a full storage: the steps are still in memory
    }
  }

  async send() {
    if (this.sending) return;
    this.sending = true;
    while (this.waiting.length) {
      this.tell("saving", "");
      const [desk, entry] = this.waiting[0];
      try {
        const answer = await act(desk, entry);
        this.stepped(answer);
      } catch (error) {
        if (!(error instanceof Refused)) {
          this.tell(error instanceof Locked ? "locked" : "offline", error.message);
          await new Promise((done) => setTimeout(done, 1500));
          continue;
        }
        this.tell("refused", error.message);
        this.waiting.shift();
        this.keep();
        continue;
      }
      this.waiting.shift();
      this.keep();
      if (!this.waiting.length) this.tell("saved", "");
    }
    this.sending = false;
  }
}
