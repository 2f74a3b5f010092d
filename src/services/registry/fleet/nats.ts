/**
 * A fleet's keys in NATS JetStream: a key-value bucket, as NATS' own clients make it. A server below 2.11 tells nobody that a
 * key's time is over, without an error: it is refused.
 */
import { connect as connectTcp } from "node:net";
import { connect as connectTls, type ConnectionOptions } from "node:tls";
import { asFailure, Failure, fail, UNAVAILABLE } from "../../../kernel/error.ts";
import { type NatsAnswer, NatsConnection } from "../../../kernel/nats/connection.ts";
import { REGISTRY_FLEET_LEASE_LOST, REGISTRY_FLEET_REFUSED } from "../codes.ts";
import type { Board, Entry, Told, Write } from "./board.ts";
import { headerOf, isGone, keyOf, NatsWatch, tokenOf } from "./nats-watch.ts";

const VERSION_MIN = [2, 11] as const;
/** How long the bucket remembers that a key is gone: who was away for longer reads all there is. */
export const MARKER_MS = 60_000;
/** JetStream's error codes (server, jetstream_errors). */
const STREAM_UNKNOWN = 10_059;
const SEQUENCE_OTHER = 10_071;
const REPLICAS = 3;

export interface NatsOptions {
  readonly urls: readonly string[];
  readonly tls: ConnectionOptions;
  readonly login?: { readonly name: string; readonly password: string } | undefined;
  readonly timeoutMs: number;
  readonly ttlMs: number;
  readonly bucket: string;
  readonly node: string;
}

interface Answer {
  readonly error?: { readonly code?: number; readonly err_code?: number; readonly description?: string };
  readonly seq?: number;
  readonly config?: { readonly allow_msg_ttl?: boolean; readonly subject_delete_marker_ttl?: number };
  readonly state?: { readonly subjects?: Readonly<Record<string, number>> };
}

/** A message of the bucket: its place in the stream, and what it holds, where it is no marker of an end. */
interface Last {
  readonly sequence: number;
  readonly value: string | undefined;
}

export class NatsBoard implements Board {
  readonly #o: NatsOptions;
  readonly #subject: string;
  readonly #stream: string;
  #connection: NatsConnection | undefined;
  #at = 0;
  #claimed: { readonly key: string; readonly value: string; sequence: number } | undefined;
  readonly #watch: NatsWatch;

  constructor(options: NatsOptions) {
    this.#o = options;
    this.#stream = `KV_${options.bucket}`;
    this.#subject = `$KV.${options.bucket}.`;
    this.#watch = new NatsWatch(this.#stream, this.#subject, MARKER_MS / 2);
  }

  get name(): string {
    return `NATS at ${this.#o.urls.join(", ")}`;
  }

  async check(): Promise<void> {
    const { version } = await this.#connected();
    const [major = 0, minor = 0] = version.split(".").map(Number);
    const isNewEnough = major > VERSION_MIN[0] || (major === VERSION_MIN[0] && minor >= VERSION_MIN[1]);
    if (!isNewEnough) {
      const said = "older ones tell nobody when the time of a key is over";
      throw fail(
        REGISTRY_FLEET_REFUSED,
        `the NATS server is of version ${version}, and ${VERSION_MIN.join(".")} is needed: ${said}`,
      );
    }
    await this.openBucket();
  }

  /** Makes the bucket where it is not there. */
  async openBucket(): Promise<void> {
    const found = await this.#ask(`$JS.API.STREAM.INFO.${this.#stream}`, {}, [STREAM_UNKNOWN]);
    const { config } = found.error ? await this.#ask(`$JS.API.STREAM.CREATE.${this.#stream}`, this.#bucket()) : found;
    if (config?.allow_msg_ttl === true && (config.subject_delete_marker_ttl ?? 0) > 0) return;
    throw fail(
      REGISTRY_FLEET_REFUSED,
      `the bucket '${this.#o.bucket}' is there without limits of time for keys (allow_msg_ttl, subject_delete_marker_ttl)`,
    );
  }

  async read(key: string): Promise<Entry | undefined> {
    const last = await this.#last(key);
    return last?.value === undefined ? undefined : { key, value: last.value, revision: last.sequence };
  }

  async keys(prefix: string): Promise<string[]> {
    const filter = { subjects_filter: `${this.#subject}>` };
    const { state } = await this.#ask(`$JS.API.STREAM.INFO.${this.#stream}`, filter);
    const keys = Object.keys(state?.subjects ?? {}).map((subject) => keyOf(subject.slice(this.#subject.length)));
    return keys.filter((key) => key.startsWith(prefix));
  }

  async claim(key: string, value: string, expected: number): Promise<boolean> {
    const last = await this.#last(key);
    if ((last?.value === undefined ? 0 : last.sequence) !== expected) return false;
    const sequence = await this.#publish(key, value, { ...this.#lease(), ...after(last?.sequence ?? 0) });
    if (sequence !== undefined) this.#claimed = { key, value, sequence };
    return sequence !== undefined;
  }

  async renew(): Promise<void> {
    const claimed = this.#claimed;
    if (!claimed) throw fail(REGISTRY_FLEET_LEASE_LOST, "no lease was begun");
    const sequence = await this.#publish(claimed.key, claimed.value, { ...this.#lease(), ...after(claimed.sequence) });
    if (sequence === undefined) throw fail(REGISTRY_FLEET_LEASE_LOST, "NATS has ended the lease, or another has it");
    claimed.sequence = sequence;
  }

  async write(writes: readonly Write[]): Promise<void> {
    // That a key is gone is remembered for a while only: instances never come back by their names.
    // Without a roll-up: the bucket keeps one message a key anyway, and a roll-up has consumers of old servers miss others.
    const gone = { "KV-Operation": "DEL", "Nats-TTL": `${MARKER_MS / 1_000}s` };
    await Promise.all(writes.map(({ key, value }) => this.#publish(key, value ?? "", value === undefined ? gone : {})));
  }

  async *follow(signal: AbortSignal): AsyncGenerator<Told> {
    const connection = await this.#connected();
    const ask = (subject: string, body: object) => this.#ask(subject, body);
    yield* this.#watch.follow({ connection, ask, signal });
  }

  close(): void {
    this.#connection?.end();
  }

  #lease(): Record<string, string> {
    return { "Nats-TTL": `${Math.ceil(this.#o.ttlMs / 1_000)}s` };
  }

  #bucket(): object {
    const { urls } = this.#o;
    return {
      name: this.#stream,
      subjects: [`${this.#subject}>`],
      storage: "file",
      retention: "limits",
      discard: "new",
      max_msgs_per_subject: 1,
      num_replicas: urls.length >= REPLICAS ? REPLICAS : 1,
      allow_direct: true,
      allow_rollup_hdrs: true,
      deny_delete: true,
      allow_msg_ttl: true,
      subject_delete_marker_ttl: MARKER_MS * 1_000_000,
    };
  }

  async #last(key: string): Promise<Last | undefined> {
    const subject = `$JS.API.DIRECT.GET.${this.#stream}.${this.#subject}${tokenOf(key)}`;
    const { status, head, body } = await this.#request(subject, {}, "");
    if (status === 404) return undefined;
    const sequence = Number(headerOf(head, "Nats-Sequence"));
    if (!(sequence > 0)) throw fail(UNAVAILABLE, `NATS does not say where '${key}' stands`);
    return { sequence, value: isGone(head) ? undefined : body };
  }

  /** Answers the place in the stream; undefined where the last message of the key is another than expected. */
  async #publish(key: string, value: string, headers: Record<string, string>): Promise<number | undefined> {
    const answered = await this.#request(this.#subject + tokenOf(key), headers, value);
    const { error, seq } = read(answered);
    if (error?.err_code === SEQUENCE_OTHER) return undefined;
    if (error || seq === undefined) throw fail(UNAVAILABLE, `NATS refused '${key}': ${reasonOf(error, answered)}`);
    return seq;
  }

  async #ask(subject: string, body: object, passed: readonly number[] = []): Promise<Answer> {
    const answered = await this.#request(subject, {}, JSON.stringify(body));
    const answer = read(answered);
    if (answered.status === undefined && (!answer.error || passed.includes(answer.error.err_code ?? 0))) return answer;
    throw fail(UNAVAILABLE, `JetStream refused ${subject}: ${reasonOf(answer.error, answered)}`);
  }

  async #request(subject: string, headers: Record<string, string>, body: string): Promise<NatsAnswer> {
    return (await this.#connected()).request(subject, headers, Buffer.from(body));
  }

  /** The connection there is, or one to the next member. */
  async #connected(): Promise<NatsConnection> {
    if (this.#connection?.isOpen) return this.#connection;
    const { urls, tls, login, timeoutMs, node } = this.#o;
    let last: Failure | undefined;
    for (let tries = 0; tries < urls.length; tries++) {
      const { protocol, hostname, port } = new URL(urls[this.#at]);
      const host = hostname.replace(/^\[|\]$/g, "");
      const inWords = (error: unknown) =>
        error instanceof Failure
          ? error
          : fail(UNAVAILABLE, `NATS at ${host}: ${(error as Error).message}`, { cause: error });
      try {
        return (this.#connection = await NatsConnection.open({
          name: `holdfast-${node}`,
          login: { username: login?.name, password: login?.password },
          timeoutMs,
          dial: () => connectTcp({ host, port: Number(port || 4222), noDelay: true, keepAlive: true }),
          secure:
            protocol === "tls:"
              ? (socket) => connectTls({ ...tls, socket, host, servername: /^[\d.]+$|:/.test(host) ? "" : host })
              : undefined,
          inWords,
        }));
      } catch (error) {
        last = asFailure(error);
        this.#at = (this.#at + 1) % urls.length;
      }
    }
    throw last ?? fail(UNAVAILABLE, "no NATS server is named");
  }
}

const after = (sequence: number) => ({ "Nats-Expected-Last-Subject-Sequence": String(sequence) });

function read({ body }: NatsAnswer): Answer {
  try {
    return JSON.parse(body) as Answer;
  } catch {
    // No JetStream there, or none that listens: the status says it.
    return {};
  }
}

const reasonOf = (error: Answer["error"], { status }: NatsAnswer): string =>
  error?.description ?? (status === 503 ? "nobody answers; start the server with JetStream" : `status ${status}`);
