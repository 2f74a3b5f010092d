/**
 * The gateway beside nginx, haproxy, caddy and three proxies of npm: CPU a request at saturation (wrk), and by an open loop
 * latency, overload and composition. What is measured has one core, everything else the other; all take turns, and of each
 * the least disturbed turn counts. `--soak=SECONDS` (60 unless said) is how long the soak lasts; `--only=cpu,crowd,idle,soak`
 * measures some of it.
 */
import { execFileSync } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import path from "node:path";
import { composition } from "./gateway/composition.ts";
import { type Door, overload } from "./gateway/overload.ts";
import { idleMemory } from "./gateway/idle.ts";
import { find, type Running, saturate, type Target } from "./gateway/machine.ts";
import {
  BODY,
  type Native,
  type Papers,
  startBehind,
  startCaddy,
  startCache,
  startFull,
  startHaproxy,
  startProxy,
} from "./gateway/natives.ts";
import { install, startNodePeers } from "./gateway/node-peers.ts";
import { startOurs } from "./gateway/ours.ts";
import { soak } from "./gateway/soak.ts";
import { report, type Row, rowOf } from "./table.ts";

const only = /--only=([a-z,]+)/.exec(process.argv.join(" "))?.[1].split(",");
const wants = (part: "cpu" | "crowd" | "idle" | "soak"): boolean => only?.includes(part) ?? true;

const ROUNDS = 5;
const ROUND_S = 2;
/** A compiler that learns while it runs has to have learnt. */
const WARM_REQUESTS = 60_000;
const WARM_MS_MAX = 20_000;

async function warm(target: Target): Promise<void> {
  const untilMs = performance.now() + WARM_MS_MAX;
  for (let asked = 0; asked < WARM_REQUESTS && performance.now() < untilMs;)
    asked += (await saturate(target, ROUND_S)).requestsPerS * ROUND_S;
}

const papersIn = (directory: string): Papers => ({
  certFile: path.join(directory, "cert.pem"),
  keyFile: path.join(directory, "key.pem"),
});

function makePapers(directory: string): void {
  const { certFile, keyFile } = papersIn(directory);
  const request = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=localhost";
  execFileSync("openssl", [...request.split(" "), "-keyout", keyFile, "-out", certFile], { stdio: "ignore" });
}

const routesOf = (behind: number) => ({
  upstreams: { behind: { urls: [`http://127.0.0.1:${behind}`] }, none: { urls: ["http://127.0.0.1:9"] } },
  routes: [
    { name: "plain", match: { path: "/plain" }, access: "public", to: [{ upstream: "behind", path: "/" }] },
    {
      name: "full",
      match: { path: "/full" },
      access: { scope: "reading:read" },
      to: [{ upstream: "behind", path: "/" }],
    },
    {
      name: "kept",
      match: { path: "/kept" },
      access: "public",
      to: [{ upstream: "behind", path: "/" }],
      cache: { freshMs: 3_600_000 },
    },
    { name: "masked", match: { path: "/masked" }, access: "public", respond: { text: BODY } },
    {
      name: "fast",
      match: { path: "/fast" },
      access: "public",
      coalesce: true,
      to: [{ upstream: "behind", path: "/" }],
    },
    {
      name: "composed",
      match: { path: "/composed" },
      access: "public",
      compose: {
        parts: Object.fromEntries(["a", "b", "c", "d"].map((name) => [name, { upstream: "behind", path: "/data" }])),
      },
    },
    { name: "one", match: { path: "/one" }, access: "public", to: [{ upstream: "behind", path: "/data" }] },
  ],
});

class Field {
  readonly directory = mkdtempSync(path.join(tmpdir(), "holdfast-bench-gateway-"));
  readonly running: Running[] = [];
  readonly seen = new Map<string, number>();

  keep<T extends Running>(running: T): T {
    this.running.push(running);
    return running;
  }

  /** Lets all take turns; the first ones are for learning. */
  async measure(targets: readonly Target[]): Promise<void> {
    for (const target of targets) await warm(target);
    for (let round = 0; round < ROUNDS; round++)
      for (const target of targets) {
        const { cpuUs } = await saturate(target, ROUND_S);
        this.seen.set(target.name, Math.min(cpuUs, this.seen.get(target.name) ?? Number.POSITIVE_INFINITY));
      }
    for (const { name } of targets) console.log(`${name.padEnd(32)} ${this.seen.get(name)?.toFixed(1)} us a request`);
  }

  /** How many times a peer's CPU we take. */
  row(name: string, ours: string, peer: string, reach: number, reason = "it is not installed"): Row {
    const [mine, theirs] = [this.seen.get(ours), this.seen.get(peer)];
    const unit = `x ${peer.split(",")[0]}`;
    if (mine === undefined || theirs === undefined) return { name, value: null, unit, reach, met: null, reason };
    return rowOf(name, Number((mine / theirs).toFixed(2)), unit, reach);
  }

  async end(): Promise<void> {
    await Promise.all(this.running.map((each) => each.stop()));
    rmSync(this.directory, { recursive: true, force: true });
  }
}

const plain = (name: string, port: number, pid: number, at = "/"): Door => ({
  name,
  url: `http://127.0.0.1:${port}${at}`,
  pid,
  port,
  path: at,
});
const native = (name: string, { port, child }: Native) => plain(name, port, child.pid!);

/** nginx and haproxy as proxies, and ours without a log line, to the same service behind. */
async function startProxies(field: Field) {
  const { directory } = field;
  const behind = field.keep(await startBehind(directory));
  const nginx = native("nginx", field.keep(await startProxy(directory, behind.port)));
  const routes = routesOf(behind.port);
  const quiet = field.keep(await startOurs({ routes, logFile: path.join(directory, "quiet.log"), logLevel: "warn" }));
  const haproxy = await startHaproxy(directory, behind.port);
  return { behind, quiet, nginx, peers: haproxy ? [nginx, native("haproxy", field.keep(haproxy))] : [nginx] };
}

type Proxies = Awaited<ReturnType<typeof startProxies>>;

async function measureCpu(field: Field, { behind, quiet, peers }: Proxies): Promise<Row[]> {
  const { directory } = field;
  const full = field.keep(await startFull(directory, behind.port, papersIn(directory)));
  const cache = field.keep(await startCache(directory, behind.port));
  const caddy = await startCaddy(directory, behind.port);
  const missing = await install(directory);
  const others = missing === undefined ? await startNodePeers(directory, behind.port) : [];
  for (const other of others) field.keep(other);
  const routes = routesOf(behind.port);
  const loud = field.keep(await startOurs({ routes, logFile: path.join(directory, "loud.log"), logLevel: "info" }));
  const token = [`Authorization: Bearer ${loud.token}`];
  await field.measure([
    ...peers,
    ...(caddy ? [native("caddy", field.keep(caddy))] : []),
    ...others.map(({ name, port, child }) => plain(name, port, child.pid!)),
    plain("ours", quiet.plainPort, quiet.pid, "/plain"),
    plain("ours, coalesced", quiet.plainPort, quiet.pid, "/fast"),
    { name: "nginx, everything on", url: `https://127.0.0.1:${full.port}/`, pid: full.child.pid! },
    { name: "ours, everything on", url: `https://127.0.0.1:${loud.port}/full`, pid: loud.pid, headers: token },
    native("nginx, from its cache", cache),
    plain("ours, from the cache", quiet.plainPort, quiet.pid, "/kept"),
    plain("ours, masked", quiet.plainPort, quiet.pid, "/masked"),
  ]);
  return [
    field.row("plain proxy", "ours", "nginx", 1.5),
    field.row("plain proxy", "ours", "haproxy", 1.5),
    field.row("plain proxy", "ours", "caddy", 0.5),
    field.row("plain proxy", "ours", "@fastify/http-proxy", 0.5, missing),
    field.row("plain proxy", "ours", "fast-gateway", 0.5, missing),
    field.row("plain proxy", "ours", "http-proxy", 0.5, missing),
    field.row("everything on", "ours, everything on", "nginx, everything on", 1.6),
    field.row("cache hit", "ours, from the cache", "nginx, from its cache", 1),
    field.row("masked answer", "ours, masked", "nginx, from its cache", 1),
    field.row("local upstream, coalesced", "ours, coalesced", "nginx", 1),
  ];
}

async function measureCrowd({ behind, quiet, peers }: Proxies): Promise<Row[]> {
  const ours = plain("ours", quiet.plainPort, quiet.pid, "/plain");
  await warm(ours);
  return [...(await overload([ours, ...peers], behind.port)), ...(await composition(quiet))];
}

async function bench(): Promise<void> {
  const lacking = ["nginx", "wrk", "taskset"].find((name) => !find(name));
  if (lacking !== undefined || availableParallelism() < 2) {
    const reason = lacking === undefined ? "one core is too few" : `${lacking} is not installed`;
    return report("gateway", [{ name: "all", value: null, unit: "", met: null, reason }]);
  }
  const field = new Field();
  try {
    makePapers(field.directory);
    const proxies = wants("cpu") || wants("crowd") ? await startProxies(field) : undefined;
    report("gateway", [
      ...(proxies && wants("cpu") ? await measureCpu(field, proxies) : []),
      ...(proxies && wants("crowd") ? await measureCrowd(proxies) : []),
      ...(wants("idle") ? await idleMemory(field.directory) : []),
      ...(wants("soak") ? await soak(field.directory) : []),
    ]);
  } finally {
    await field.end();
  }
}

await bench();
process.exit(0);
