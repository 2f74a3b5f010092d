/** What came over a process's line, kept for who asks later; and a service's own part of the line. */
import type { SupervisorLine } from "../kernel/service.ts";
import type { Line, Message } from "./line.ts";

/** Messages of a kind that nobody takes; above it the oldest goes. */
const WAITING_MAX = 256;

export class Inbox {
  readonly #waiting: Message[] = [];
  readonly #handlers = new Map<string, (message: Message) => void>();

  take(message: Message): void {
    const handle = this.#handlers.get(message.kind);
    if (handle) return handle(message);
    this.#waiting.push(message);
    if (this.#waiting.length > WAITING_MAX) this.#waiting.shift();
  }

  /** Calls back for each message of a kind from now on, those that waited first. */
  on(kind: string, handle: (message: Message) => void): void {
    this.#handlers.set(kind, handle);
    for (const message of this.#waiting.splice(0)) this.take(message);
  }

  /** Waits for one message of a kind; the first that came counts. */
  async first(kind: string): Promise<Message> {
    return this.next(kind);
  }

  /** Waits for the next message of a kind. */
  next(kind: string): Promise<Message> {
    return new Promise((resolve) => {
      const at = this.#waiting.findIndex((message) => message.kind === kind);
      if (at >= 0) return resolve(this.#waiting.splice(at, 1)[0]);
      this.#handlers.set(kind, (message) => {
        this.#handlers.delete(kind);
        resolve(message);
      });
    });
  }
}

/** The lines of the services in this process, each as its service sees it. */
export class ServiceLines {
  readonly #line: Line;
  readonly #handlers = new Map<string, (message: Readonly<Record<string, unknown>>) => void>();
  readonly #waiting: { key: string; message: Readonly<Record<string, unknown>> }[] = [];

  constructor(inbox: Inbox, line: Line) {
    this.#line = line;
    inbox.on("line", ({ service, name, message }) =>
      this.#deliver(`${String(service)} ${String(name)}`, message as Readonly<Record<string, unknown>>),
    );
  }

  of(service: string): SupervisorLine {
    return {
      on: (kind, handle) => {
        const key = `${service} ${kind}`;
        this.#handlers.set(key, handle);
        for (const { message } of this.#waiting.filter((w) => w.key === key)) handle(message);
      },
      send: (name, message) => this.#line.send({ kind: "line", service, name, message }),
    };
  }

  #deliver(key: string, message: Readonly<Record<string, unknown>>): void {
    const handle = this.#handlers.get(key);
    if (handle) return handle(message);
    this.#waiting.push({ key, message });
    if (this.#waiting.length > WAITING_MAX) this.#waiting.shift();
  }
}
