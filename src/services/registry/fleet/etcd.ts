/** A fleet's keys in etcd (3.4 or newer), through its JSON gateway. */
import { fail, UNAVAILABLE } from "../../../kernel/error.ts";
import { REGISTRY_FLEET_LEASE_LOST, REGISTRY_FLEET_REFUSED } from "../codes.ts";
import type { Board, Entry, Told, Write } from "./board.ts";
import { EtcdClient, type EtcdClientOptions } from "./etcd-client.ts";

/** The JSON gateway of older ones has other paths. */
const VERSION_MIN = [3, 4] as const;

export interface EtcdOptions extends EtcdClientOptions {
  /** Before all keys, with a slash at its end. */
  readonly prefix: string;
  /** etcd counts in seconds, and gives no lease below two. */
  readonly ttlMs: number;
}

interface KeyValue {
  readonly key: string;
  readonly value?: string;
  readonly mod_revision: string;
}

interface Watched {
  readonly canceled?: boolean;
  readonly cancel_reason?: string;
  /** Set where what came between has been compacted away. */
  readonly compact_revision?: string;
  readonly events?: readonly { readonly type?: "DELETE"; readonly kv: KeyValue }[];
}

const coded = (text: string): string => Buffer.from(text).toString("base64");
const decoded = (text: string): string => Buffer.from(text, "base64").toString();
/** The end of the range of all keys with a prefix: the prefix with its last byte one higher. */
const after = (prefix: string): string =>
  prefix.slice(0, -1) + String.fromCharCode(prefix.charCodeAt(prefix.length - 1) + 1);

export class EtcdBoard implements Board {
  readonly #o: EtcdOptions;
  readonly #client: EtcdClient;
  #lease: string | undefined;
  /** Where the next watch goes on; undefined: with all there is. */
  #next: number | undefined;

  constructor(options: EtcdOptions) {
    this.#o = options;
    this.#client = new EtcdClient(options);
  }

  get name(): string {
    return `etcd at ${this.#o.urls.join(", ")}`;
  }

  async check(): Promise<void> {
    const { version = "unknown" } = (await this.#client.call("/v3/maintenance/status", {})) as { version?: string };
    const [major = 0, minor = 0] = version.split(".").map(Number);
    if (!(major > VERSION_MIN[0] || (major === VERSION_MIN[0] && minor >= VERSION_MIN[1])))
      throw fail(REGISTRY_FLEET_REFUSED, `etcd is of version ${version}, and ${VERSION_MIN.join(".")} is needed`);
  }

  async read(key: string): Promise<Entry | undefined> {
    const { kvs = [] } = (await this.#client.call("/v3/kv/range", { key: this.#key(key) })) as { kvs?: KeyValue[] };
    return kvs[0] && this.#entry(kvs[0]);
  }

  async keys(prefix: string): Promise<string[]> {
    const { entries } = await this.#range(prefix, { keys_only: true });
    return entries.map(({ key }) => key);
  }

  async claim(key: string, value: string, expected: number): Promise<boolean> {
    const TTL = Math.ceil(this.#o.ttlMs / 1_000);
    const { ID } = (await this.#client.call("/v3/lease/grant", { TTL })) as { ID: string };
    const { succeeded = false } = await this.#client.call("/v3/kv/txn", {
      compare: [{ key: this.#key(key), target: "MOD", result: "EQUAL", mod_revision: expected }],
      success: [{ request_put: { key: this.#key(key), value: coded(value), lease: ID } }],
    });
    if (succeeded) this.#lease = ID;
    else await this.#client.call("/v3/lease/revoke", { ID });
    return succeeded === true;
  }

  async renew(): Promise<void> {
    const { result } = (await this.#client.call("/v3/lease/keepalive", { ID: this.#lease ?? "0" })) as {
      result?: { TTL?: string };
    };
    if (Number(result?.TTL ?? 0) <= 0) throw fail(REGISTRY_FLEET_LEASE_LOST, "etcd has ended the lease");
  }

  /** One transaction: one sync of their disks, however many. */
  async write(writes: readonly Write[]): Promise<void> {
    const success = writes.map(({ key, value }) =>
      value === undefined
        ? { request_delete_range: { key: this.#key(key) } }
        : { request_put: { key: this.#key(key), value: coded(value), lease: this.#lease ?? "0" } },
    );
    await this.#client.call("/v3/kv/txn", { success });
  }

  async *follow(signal: AbortSignal): AsyncGenerator<Told> {
    if (this.#next === undefined) {
      const { entries, revision } = await this.#range("");
      yield { kind: "all", entries };
      this.#next = revision + 1;
    }
    const { prefix } = this.#o;
    const create_request = { key: coded(prefix), range_end: coded(after(prefix)), start_revision: this.#next };
    for await (const each of this.#client.watch({ create_request }, signal)) {
      const { canceled, cancel_reason, compact_revision, events = [] } = each as Watched;
      if (compact_revision !== undefined) this.#next = undefined;
      if (canceled) throw fail(UNAVAILABLE, `etcd ended the watch: ${cancel_reason || "it was compacted"}`);
      for (const { type, kv } of events) {
        const entry = this.#entry(kv);
        yield type === "DELETE" ? { kind: "gone", key: entry.key } : { kind: "put", entry };
        this.#next = entry.revision + 1;
      }
    }
  }

  close(): void {
    this.#client.close();
  }

  async #range(prefix: string, more: object = {}): Promise<{ entries: Entry[]; revision: number }> {
    const whole = this.#o.prefix + prefix;
    const body = { key: coded(whole), range_end: coded(after(whole)), ...more };
    const { header, kvs = [] } = (await this.#client.call("/v3/kv/range", body)) as {
      header: { revision: string };
      kvs?: KeyValue[];
    };
    return { entries: kvs.map((kv) => this.#entry(kv)), revision: Number(header.revision) };
  }

  #key(key: string): string {
    return coded(this.#o.prefix + key);
  }

  #entry({ key, value = "", mod_revision }: KeyValue): Entry {
    return { key: decoded(key).slice(this.#o.prefix.length), value: decoded(value), revision: Number(mod_revision) };
  }
}
