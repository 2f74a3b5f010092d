/** One service of the node is hostile, runs any JavaScript and makes any native call: nothing of its table of attempts succeeds. */
import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import {
  chmodSync,
  chownSync,
  existsSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { once } from "node:events";
import { Agent } from "node:http";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { after, before, suite, test } from "node:test";
import { promisify } from "node:util";
import { connect } from "../../src/kernel/connect.ts";
import { withLink } from "../../src/cli/link.ts";
import { trace } from "../../src/services/trace/api.ts";
import { readLine } from "../../src/services/trace/chain.api.ts";
import { mountWayOf } from "../../src/node/confine/spawn.ts";
import { landlockAbi } from "../../src/node/confine/landlock.ts";
import {
  call,
  makePlace,
  type Place,
  removeCode,
  type RunningNode,
  startNode,
  testCode,
  until,
} from "../houses/node/rig.ts";
import { freePort } from "../houses/ports.ts";
import { hostile, type Hostile } from "./api.ts";
import type { Attempt, Outcome, Target } from "./attempt.ts";
import { FORGED } from "./house.attempts.ts";
import { TABLES } from "./tables.ts";

const NOBODY = { uid: 65_534, gid: 65_534 };
const root = process.getuid?.() === 0;
/** Landlock rules ports from this ABI on (Linux 6.7). */
const ABI_PORTS = 4;
const NEIGHBOUR = "core-keeper";

interface House {
  readonly place: Place;
  readonly node: RunningNode;
  readonly hostile: Hostile;
  readonly target: Target;
  close(): void;
}

before(() => testCode("../../hostile/house.ts"));
after(removeCode);

async function openHouse(user: typeof NOBODY | undefined): Promise<House> {
  const place = makePlace("", `gateway.https: { port: ${freePort()} }, hostile.plain`);
  const directory = dirname(place.state);
  if (user) for (const path of [directory, place.config]) chownSync(path, user.uid, user.gid);
  // For the key file's directory, which the node makes.
  chmodSync(directory, 0o711);
  const node = await startNode(place, [], user);
  try {
    await node.wrote(/Running: 7 services/);
  } catch (error) {
    node.close();
    throw error;
  }
  const stranger = createServer((socket) => socket.destroy()).listen(0, "127.0.0.1");
  await once(stranger, "listening");
  const marker = join(mkdtempSync(join(tmpdir(), "holdfast-left-")), "note");
  chmodSync(dirname(marker), 0o777);
  writeFileSync(marker, "left", { mode: 0o666 });
  const agent = new Agent({ keepAlive: true });
  const at = { host: "127.0.0.1", port: place.doorPort, agent, secure: false };
  return {
    place,
    node,
    hostile: connect(hostile, { resolver: { pick: () => at, failed: () => undefined } }),
    target: await targetOf(place, node, marker, (stranger.address() as AddressInfo).port),
    close() {
      agent.destroy();
      node.close();
      stranger.close();
      rmSync(dirname(marker), { recursive: true, force: true });
      place.remove();
    },
  };
}

async function targetOf(place: Place, node: RunningNode, marker: string, strangePort: number): Promise<Target> {
  const { services } = await node.control.status({}, call());
  const neighbour = services.find(({ service }) => service === NEIGHBOUR)!;
  const directory = join(place.state, NEIGHBOUR);
  const file = readdirSync(directory, { recursive: true, encoding: "utf8" })
    .map((name) => join(directory, name))
    .find((path) => statSync(path).isFile());
  const code = await testCode();
  return {
    ownDirectory: join(place.state, "hostile"),
    codeDirectory: code.directory,
    files: {
      "a neighbour's file": file!,
      "the key file": place.keyFile,
      "the wrapped keys": join(place.state, "node", "keyring.json"),
      "the config": place.config,
      "a program's file in /tmp": marker,
    },
    directories: { state: place.state, neighbour: directory },
    controlSocket: join(place.state, "control.sock"),
    supervisorPid: node.child.pid!,
    neighbourPid: neighbour.pid,
    otherServicePort: Number(/:(\d+)$/.exec(services.find(({ service }) => service === "core-metadata")!.address!)![1]),
    strangePort,
    neighbour: NEIGHBOUR,
    neighbourInstance: neighbour.instance,
  };
}

/** What this machine cannot give is said at the start (`holdfast doctor`); what depends on it is no failure of the walls. */
async function needless(): Promise<Set<string>> {
  const { launcher } = await testCode();
  const mounts = await mountWayOf(launcher);
  return new Set([
    ...(mounts ? [] : ["load a library that it wrote", "map what it wrote as code"]),
    ...(landlockAbi() >= ABI_PORTS
      ? []
      : [
          "connect to a stranger",
          "connect to a service that it does not need",
          "call what its contract does not name",
        ]),
  ]);
}

function judge(attempts: readonly Attempt[], outcomes: readonly Outcome[], excused: ReadonlySet<string>): void {
  assert.deepEqual(
    outcomes.filter(({ name, evidence }) => evidence !== undefined && !excused.has(name)),
    [],
    "what succeeded",
  );
  const odd = outcomes.filter(
    ({ name, refusal }, at) => !excused.has(name) && !attempts[at].refused.test(refusal ?? ""),
  );
  assert.deepEqual(odd, [], "what was refused otherwise than by the wall that is meant for it");
}

for (const user of [
  ...(root ? [undefined] : []),
  ...(root ? [NOBODY] : [{ uid: process.getuid!(), gid: process.getgid!() }]),
]) {
  suite(user ? "as an ordinary user" : "as root", { timeout: 240_000 }, () => {
    let house: House;
    let excused: Set<string>;
    before(async () => {
      house = await openHouse(root ? user : undefined);
      excused = await needless();
    });
    after(() => house?.close());

    for (const table of Object.keys(TABLES).filter((name) => name !== "lastOfAll")) {
      test(`nothing succeeds of ${TABLES[table].length} attempts: ${table}`, async () => {
        const { outcomes } = await house.hostile.attempt({ body: { table, target: house.target } }, call(60_000));
        assert.equal(outcomes.length, TABLES[table].length);
        judge(TABLES[table], outcomes, excused);
      });
    }

    test("what it said in others' names was not believed, and is in the log under its own", async () => {
      const { caPem } = await house.node.control.token(
        { body: { subject: "a", role: "viewer", lifetimeS: 60 } },
        call(),
      );
      assert.match(caPem, /BEGIN CERTIFICATE/);
      const { services } = await house.node.control.status({}, call());
      for (const { service, reason } of services) assert.ok(!reason?.includes(FORGED), service);
      let lines: string[] = [];
      await until(
        async () =>
          (lines = (await house.node.control.logs({ lines: 10_000 }, call())).lines).some((l) => l.includes(FORGED)),
        () => "the log line",
      );
      for (const text of lines.filter((l) => l.includes(FORGED))) assert.match(text, /"service":"hostile"/);
      assert.ok(
        lines.some((text) => text.includes("hostile spoke as 'identity'")),
        "the supervisor says who spoke as whom",
      );
      assert.ok(!house.node.output().includes("\u001b]0;"), "no line speaks to the terminal");
    });

    test("whom the house refused is in the audit trail by name", async () => {
      let denied: string[] = [];
      const wanted = [
        "identity issueToken",
        "core-keeper maintain",
        "core-keeper hold",
        "core-keeper setValues",
        "bus publish",
        "bus follow",
      ];
      await until(
        async () => {
          denied = await deniedOf(house);
          return wanted.every((action) => denied.includes(action));
        },
        () => `${wanted.join(", ")} to be noted; there are ${denied.join(", ")}`,
      );
    });

    if (root && !user)
      test("without walls the same attempts succeed: they are no mere gestures", async (t) => {
        const own = mkdtempSync(join(tmpdir(), "holdfast-control-"));
        t.after(() => rmSync(own, { recursive: true, force: true }));
        const target = JSON.stringify({ ...house.target, ownDirectory: own });
        const control = join(import.meta.dirname, "control.ts");
        const { stdout } = await promisify(execFile)(process.execPath, [control, target], {
          maxBuffer: 16 * 1024 * 1024,
        });
        const outcomes = JSON.parse(stdout) as Outcome[];
        assert.ok(outcomes.length > 50, `${outcomes.length} attempts`);
        assert.deepEqual(
          outcomes.filter(({ evidence }) => evidence === undefined),
          [],
        );
      });

    test("threads without end are the end of the service alone", async () => {
      const pids = await house.node.pids();
      const told = await house.hostile
        .attempt({ body: { table: "lastOfAll", target: house.target } }, call(60_000))
        .catch((error: unknown) => ({ outcomes: [{ name: "threads", refusal: String(error), evidence: undefined }] }));
      assert.equal(told.outcomes[0].evidence, undefined);
      const now = await house.node.pids();
      for (const [service, pid] of pids) if (service !== "hostile") assert.equal(now.get(service), pid, service);
      assert.ok(!["/tmp", "/var/tmp", "/run", "/dev/shm"].some((path) => existsSync(join(path, "holdfast-hostile"))));
      assert.equal(readFileSync(house.target.files["a program's file in /tmp"], "utf8"), "left");
    });
  });
}

/** What the hostile service was denied, by the audit trail. */
const deniedOf = ({ place }: House): Promise<string[]> =>
  withLink({ state: place.state, role: "admin" }, async (link) => {
    const wanted = { who: "hostile", outcome: "denied" as const, limit: 1_000 };
    const { lines } = await link.service(trace).auditSearch(wanted, link.call());
    return lines.map((line) => readLine(line)!.action);
  });
