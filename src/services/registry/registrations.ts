/** EdgeX's registrations: who may make one, and how the registry looks after them by checks. */
import type { Call } from "../../kernel/call.ts";
import type { Clock } from "../../kernel/clock.ts";
import { parseDurationMs } from "../../kernel/duration.ts";
import { fail, INPUT_INVALID } from "../../kernel/error.ts";
import type { Log } from "../../kernel/log.ts";
import { REGISTRY_FULL, REGISTRY_NAME_REFUSED, REGISTRY_SERVICE_EXISTS, REGISTRY_SERVICE_UNKNOWN } from "./codes.ts";
import type { Instance } from "./instances.api.ts";
import type { Probe } from "./probe.ts";
import type { Registration, RegistrationRequest, Status } from "./registrations.api.ts";
import type { Roster } from "./roster.ts";
import type { RegistryStore } from "./store.ts";

/** More are refused with REGISTRY_FULL. */
export const REGISTRATIONS_MAX = 256;
/** A check is given up after its interval, and after this at the latest. */
const CHECK_TIMEOUT_MS_MAX = 5_000;
/** So many checks run at once; others are late by a tick. */
const CHECKS_MAX = 32;
const INTERVAL_DEFAULT = "10s";
const INTERVAL_MS_MIN = 100;
const INTERVAL_MS_MAX = 86_400_000;
const TYPES = ["http", "https", "tcp", "ttl"] as const;
/** Those who have no certificate of their own service: EdgeX's software, and people. */
const OUTSIDERS = ["open-edgex", "gateway", "cli"];
/** Instances of strangers carry it, and no certificate's name begins with it. */
const STRANGER = "~";

export interface RegistrationsOptions {
  readonly store: RegistryStore;
  readonly roster: Roster;
  readonly clock: Clock;
  readonly log: Log;
  readonly probe: (asked: Probe) => Promise<void>;
}

interface Checked {
  registration: Registration;
  readonly type: (typeof TYPES)[number];
  readonly intervalMs: number;
  /** The next check; of `ttl` the end of its time. */
  dueMs: number;
  isRunning: boolean;
}

type Asked = RegistrationRequest["registration"];

export class Registrations {
  readonly #options: RegistrationsOptions;
  readonly #checked = new Map<string, Checked>();
  #running = 0;

  /** Begins with those that are kept; each is `unverified` until it has been checked. */
  constructor(options: RegistrationsOptions) {
    this.#options = options;
    for (const kept of options.store.registrations())
      this.#take(kept.status === "HALT" ? kept : { ...kept, status: "UNKNOWN" });
  }

  add(asked: Asked, call: Call): void {
    this.#requireName(asked.serviceId, call);
    if (this.#checked.has(asked.serviceId))
      throw fail(REGISTRY_SERVICE_EXISTS, `'${asked.serviceId}' is registered already`);
    if (this.#checked.size >= REGISTRATIONS_MAX)
      throw fail(REGISTRY_FULL, `the registry has ${REGISTRATIONS_MAX} registrations, no room for another`);
    this.#write(asked, this.#options.clock.wallMs());
  }

  update(asked: Asked, call: Call): void {
    this.#requireName(asked.serviceId, call);
    const known = this.#checked.get(asked.serviceId);
    if (!known) throw unknown(asked.serviceId);
    // A sign of life is no change: it costs no write.
    const { status = "", host = "", port } = asked;
    const { registration: before } = known;
    const isSame = before.host === host && before.port === port && before.healthCheck.type === asked.healthCheck.type;
    if (known.type === "ttl" && isSame && ["", "UP"].includes(status)) this.#live(known);
    else this.#write(asked, before.created);
  }

  remove(serviceId: string, call: Call): void {
    this.#requireName(serviceId, call);
    if (!this.#checked.delete(serviceId)) throw unknown(serviceId);
    this.#options.store.removeRegistration(serviceId);
    this.#options.roster.remove(STRANGER + serviceId);
  }

  /** Of a service, our own included; REGISTRY_SERVICE_UNKNOWN. */
  get(serviceId: string): Registration {
    const held = this.#held(serviceId);
    const found = held[0] ? this.#asRegistration(held) : this.#checked.get(serviceId)?.registration;
    if (!found) throw unknown(serviceId);
    return found;
  }

  /** All, our own services' included, by name; those that deregistered only where asked. */
  list(deregistered: boolean): Registration[] {
    const here = this.#options.roster.list().instances.filter(({ node }) => node === undefined);
    const names = new Set([...here.map((i) => i.service), ...this.#checked.keys()]);
    const all = [...names].sort().map((name) => this.get(name));
    return deregistered ? all : all.filter(({ status }) => status !== "HALT");
  }

  /** Begins the checks that are due; to be called several times a second. */
  tick(): void {
    const nowMs = this.#options.clock.monotonicMs();
    for (const checked of this.#checked.values()) {
      if (checked.registration.status === "HALT" || checked.isRunning || nowMs < checked.dueMs) continue;
      if (checked.type === "ttl") {
        checked.dueMs = Number.POSITIVE_INFINITY;
        this.#become(checked, "DOWN", `gave no sign of life for ${checked.intervalMs} ms`);
      } else if (this.#running < CHECKS_MAX) void this.#check(checked, checked.type);
    }
  }

  async #check(checked: Checked, type: Probe["type"]): Promise<void> {
    const { clock, probe } = this.#options;
    const { registration, intervalMs } = checked;
    const { host, port, healthCheck } = registration;
    checked.isRunning = true;
    this.#running++;
    const timeoutMs = Math.min(intervalMs, CHECK_TIMEOUT_MS_MAX);
    const reason = await probe({ type, host, port, path: healthCheck.path ?? "/", timeoutMs }).then(
      () => undefined,
      (error: unknown) => (error instanceof Error ? error.message : String(error)) || "cannot be reached",
    );
    this.#running--;
    checked.isRunning = false;
    checked.dueMs = clock.monotonicMs() + intervalMs;
    // It may have been changed or removed meanwhile.
    if (this.#checked.get(registration.serviceId) !== checked) return;
    if (reason === undefined) this.#live(checked);
    else this.#become(checked, "DOWN", reason);
  }

  /** It is there, at this moment. */
  #live(checked: Checked): void {
    const { clock } = this.#options;
    if (checked.type === "ttl") checked.dueMs = clock.monotonicMs() + checked.intervalMs;
    checked.registration = { ...checked.registration, lastConnected: clock.wallMs() };
    this.#become(checked, "UP");
  }

  #write(asked: Asked, created: number): void {
    const { store, clock } = this.#options;
    const { serviceId, status, host = "", port, healthCheck } = asked;
    const modified = clock.wallMs();
    const lastConnected = this.#checked.get(serviceId)?.registration.lastConnected ?? 0;
    const registration = {
      serviceId,
      status: status || ("UNKNOWN" as const),
      host: host || "localhost",
      port,
      healthCheck: { ...healthCheck, interval: healthCheck.interval ?? INTERVAL_DEFAULT },
      lastConnected,
      created,
      modified,
    };
    const checked = this.#take(registration);
    // Who is to say so itself did, just now.
    if (checked.type === "ttl" && registration.status === "UNKNOWN") this.#live(checked);
    store.putRegistration(registration);
  }

  #take(registration: Registration): Checked {
    const { clock } = this.#options;
    const { interval = INTERVAL_DEFAULT } = registration.healthCheck;
    const type = TYPES.find((one) => one === registration.healthCheck.type);
    if (!type) throw fail(INPUT_INVALID, `healthCheck.type is one of ${TYPES.join(", ")}`);
    const intervalMs = parseDurationMs(interval);
    if (intervalMs < INTERVAL_MS_MIN || intervalMs > INTERVAL_MS_MAX)
      throw fail(INPUT_INVALID, `healthCheck.interval is a duration from 100ms to 24h ('10s'), not '${interval}'`);
    // The first look comes after half the interval, as EdgeX's does; a sign of life has all of it.
    const dueMs = clock.monotonicMs() + (type === "ttl" ? intervalMs : intervalMs / 2);
    const checked: Checked = { registration, type, intervalMs, dueMs, isRunning: false };
    this.#become(checked, registration.status);
    this.#checked.set(registration.serviceId, checked);
    return checked;
  }

  #become(checked: Checked, status: Status, reason?: string): void {
    const { roster, log } = this.#options;
    const before = checked.registration.status;
    checked.registration = { ...checked.registration, status };
    const { serviceId, host, port, created } = checked.registration;
    const instance = STRANGER + serviceId;
    if (status === "HALT") roster.remove(instance);
    else
      roster.show({
        service: serviceId,
        instance,
        host,
        port,
        pid: 0,
        version: "",
        startedAtMs: created,
        state: STATES[status],
        ...(reason === undefined ? {} : { reason: reason.slice(0, 1024) }),
        check: checked.type === "https" ? "http" : checked.type,
        routes: [],
      });
    if (before !== status) log.info({ serviceId, status, reason }, `${serviceId} is ${status}`);
  }

  /** A name that a certificate holds is its own; a certificate's service registers under its name alone. */
  #requireName(serviceId: string, { caller }: Call): void {
    const isRefused = OUTSIDERS.includes(caller) ? this.#held(serviceId).length > 0 : caller !== serviceId;
    if (isRefused) throw fail(REGISTRY_NAME_REFUSED, `'${caller}' may not register as '${serviceId}'`);
  }

  #held(service: string): Instance[] {
    return this.#options.roster.list(service).instances.filter(({ check }) => check === undefined);
  }

  /** One of our services as EdgeX's software sees it: the instance that is best, at the port that it can speak to. */
  #asRegistration(held: readonly Instance[]): Registration {
    const best = held.find(({ state }) => state === "passing") ?? held.find(({ state }) => state !== "critical");
    const { service, host, port, edgexPort, startedAtMs } = best ?? held[0];
    return {
      serviceId: service,
      status: best ? (best.state === "unverified" ? "UNKNOWN" : "UP") : "DOWN",
      host: edgexPort === undefined ? host : "localhost",
      port: edgexPort ?? port,
      healthCheck: { interval: INTERVAL_DEFAULT, path: "/api/v3/ping", type: "http" },
      lastConnected: this.#options.clock.wallMs(),
      created: startedAtMs,
      modified: startedAtMs,
    };
  }
}

const STATES = { UP: "passing", DOWN: "critical", UNKNOWN: "unverified" } as const;

const unknown = (serviceId: string) => fail(REGISTRY_SERVICE_UNKNOWN, `there is no service '${serviceId}'`);
