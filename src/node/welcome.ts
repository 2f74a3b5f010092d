/** The node is up: the cloud beside it is joined, the page is shown, and its last line kept current. */
import type { Log } from "../kernel/log.ts";
import { enrollBeside } from "./enroll.ts";
import { Observer } from "./glance.ts";
import { type ProtectionOptions, whatDoesNot, whatHolds } from "./protection.ts";
import type { Row, Screen } from "./screen.ts";
import type { ServiceSockets } from "./sockets.ts";
import type { Supervisor } from "./supervisor.ts";

const LOOK_MS = 2_000;
/** A start that takes longer than this says what it waits for. */
const PATIENCE_MS = 20_000;

export interface WelcomeOptions {
  readonly supervisor: Supervisor;
  readonly screen: Screen;
  readonly sockets: ReadonlyMap<string, ServiceSockets>;
  readonly role: "node" | "cloud";
  readonly openEdgex: boolean;
  readonly protection: () => ProtectionOptions;
  readonly log: Log;
  readonly stopping: AbortSignal;
}

export class Welcome {
  readonly #options: WelcomeOptions;
  readonly #startMs = performance.now();

  constructor(options: WelcomeOptions) {
    this.#options = options;
  }

  get gatewayUrl(): string | undefined {
    const door = this.#options.sockets.get("gateway")?.doors["https"];
    return door && `https://${door.host === "0.0.0.0" || door.host === "::" ? "127.0.0.1" : door.host}:${door.port}`;
  }

  /** What protects the node, then what does not. */
  protection(): string[] {
    const options = this.#options.protection();
    return [...whatHolds(options), ...whatDoesNot(options)];
  }

  /** Waits until all is up, then shows the page. */
  async show(): Promise<void> {
    const { supervisor, screen, sockets, log, stopping } = this.#options;
    const impatient = setTimeout(() => this.#sayWhoIsMissing(), PATIENCE_MS).unref();
    await supervisor.ready;
    clearTimeout(impatient);
    if (stopping.aborted) return;
    const ms = Math.round(performance.now() - this.#startMs);
    log.info({ ms }, "all services are up");
    const beside = sockets.get("cloud")?.listen[0];
    if (beside && sockets.has("pipeline"))
      void enrollBeside({ supervisor, url: `https://${beside.host}:${beside.port}`, log, signal: stopping });
    const options = this.#options.protection();
    const count = `${sockets.size} ${sockets.size === 1 ? "service" : "services"}`;
    screen.page(
      `Running: ${count}, up in ${(ms / 1000).toFixed(1)} s`,
      this.#rows(whatHolds(options), whatDoesNot(options)),
    );
    await this.#live();
  }

  async #live(): Promise<void> {
    const { supervisor, screen, sockets, stopping } = this.#options;
    if (!sockets.has("pipeline") && !sockets.has("device-host")) return;
    const observer = new Observer({ supervisor, gatewayUrl: this.gatewayUrl, has: (name) => sockets.has(name) });
    let seen = await observer.look();
    if (stopping.aborted) return;
    const look = async (): Promise<void> => {
      seen = { ...seen, ...(await observer.look()) };
    };
    const looking = setInterval(() => void look(), LOOK_MS).unref();
    stopping.addEventListener("abort", () => clearInterval(looking), { once: true });
    screen.live(() => {
      const parts = [seen.cloud && `cloud: ${seen.cloud}`, seen.measured].filter(Boolean);
      return parts.join("  |  ") || "waiting for the first readings";
    });
  }

  #sayWhoIsMissing(): void {
    const { supervisor, screen, sockets } = this.#options;
    const up = new Set(supervisor.status().flatMap(({ service, state }) => (state === "passing" ? [service] : [])));
    const missing = [...sockets.keys()].filter((name) => !up.has(name));
    screen.say(`  note  still waiting for ${missing.join(", ")}; 'holdfast logs' tells more`);
  }

  #rows(holds: readonly string[], holdsNot: readonly string[]): Row[] {
    const { sockets, role, openEdgex } = this.#options;
    const rows: Row[] = [];
    const add = (label: string, ...texts: readonly string[]): void => {
      for (const text of texts) rows.push([text === texts[0] ? label : "", text]);
    };
    if (this.gatewayUrl) {
      add("gateway", this.gatewayUrl);
      add("token", "npx holdfast token    (how to use it with curl: npx holdfast token --help)");
    }
    const cloud = sockets.get("cloud")?.listen[0];
    if (cloud)
      add(
        "cloud",
        `https://${cloud.host}:${cloud.port}${role === "cloud" ? "" : ", beside this node for a first look"}`,
      );
    if (role === "cloud") add("code", "npx holdfast cloud code    (then on the node: npx holdfast enroll URL CODE)");
    if (openEdgex) add("open", `without TLS, for EdgeX software on this machine: ${withoutTls(sockets)}`);
    add("protected", ...holds);
    add("mind", ...holdsNot);
    add("more", "npx holdfast status, readings, devices, backlog, trace, logs");
    add("stop", "Ctrl-C; what is not yet at the cloud is kept and goes there at the next start");
    return rows;
  }
}

/** Names the sockets that ask nobody who he is. */
const withoutTls = (sockets: WelcomeOptions["sockets"]): string =>
  [...sockets].flatMap(([name, own]) => own.withoutTls.map(({ host, port }) => `${name} ${host}:${port}`)).join(", ");
