/** What a NATS server says: lines, and payloads behind some of them. */

/** The longest line of the protocol that is taken, and the longest message: a server's own limit is the same. */
const LINE_BYTES_MAX = 65_536;
const MESSAGE_BYTES_MAX = 1_048_576;

/** Cuts the stream into lines and, behind those that say so, payloads. Error at a line or payload beyond the limits. */
export class Parser {
  readonly #take: (verb: string, rest: string, payload: Buffer) => void;
  #rest: Buffer = Buffer.alloc(0);

  constructor(take: (verb: string, rest: string, payload: Buffer) => void) {
    this.#take = take;
  }

  push(chunk: Buffer): void {
    this.#rest = this.#rest.length === 0 ? chunk : Buffer.concat([this.#rest, chunk]);
    for (;;) {
      const end = this.#rest.indexOf("\r\n");
      if (end > LINE_BYTES_MAX || (end < 0 && this.#rest.length > LINE_BYTES_MAX))
        throw new Error("it is no NATS server");
      if (end < 0) return;
      const line = this.#rest.toString("utf8", 0, end);
      const [verb] = line.split(" ", 1);
      const rest = line.slice(verb.length + 1).trim();
      const sizeBytes = verb === "MSG" || verb === "HMSG" ? Number(rest.split(" ").at(-1)) : undefined;
      if (sizeBytes !== undefined && !(sizeBytes <= MESSAGE_BYTES_MAX)) throw new Error("the server answers too much");
      const behind = sizeBytes === undefined ? end + 2 : end + 2 + sizeBytes + 2;
      if (this.#rest.length < behind) return;
      const payload = this.#rest.subarray(end + 2, Math.max(end + 2, behind - 2));
      this.#rest = this.#rest.subarray(behind);
      this.#take(verb.toUpperCase(), rest, payload);
    }
  }
}
