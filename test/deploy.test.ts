import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { chownSync, copyFileSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, suite, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { promisify } from "node:util";
import { parse } from "yaml";
import { layOut } from "../deploy/image.ts";
import { need } from "./need.ts";

const run = promisify(execFile);
const DEPLOY = join(import.meta.dirname, "../deploy");
const USER = 65_532;
const WAIT_MS = 120_000;
/** Exposure as systemd-analyze counts it, in tenths. */
const EXPOSURE_MAX = 15;
const IN_MEMORY = ["/tmp", "/run", "/var/tmp", "/dev/shm"];
const VOLUMES = ["/var/lib/holdfast", "/var/lib/holdfast-key"];

interface Compose {
  readonly services: {
    readonly holdfast: Record<string, unknown> & { readonly tmpfs: string[]; readonly volumes: string[] };
  };
  readonly volumes: Record<string, { readonly driver_opts: { readonly o: string } }>;
}
const { services, volumes } = parse(readFileSync(join(DEPLOY, "compose.yaml"), "utf8")) as Compose;
const { holdfast } = services;

for (const unit of readdirSync(DEPLOY).filter((name) => name.endsWith(".service")))
  test(
    `${unit} is exposed by ${EXPOSURE_MAX / 10} at most, as systemd counts it`,
    { skip: need("systemd") },
    async () => {
      const asked = ["security", "--offline=true", `--threshold=${EXPOSURE_MAX}`, "--no-pager", join(DEPLOY, unit)];
      // Above the threshold it ends with 1.
      const { stdout } = await run("systemd-analyze", asked);
      assert.match(stdout, /Overall exposure level/);
    },
  );

test("keys in a TPM leave the unit within that", { skip: need("systemd") }, async (t) => {
  const place = mkdtempSync(join(tmpdir(), "holdfast-unit-"));
  t.after(() => rmSync(place, { recursive: true, force: true }));
  mkdirSync(join(place, "holdfast.service.d"));
  copyFileSync(join(DEPLOY, "holdfast.service"), join(place, "holdfast.service"));
  copyFileSync(join(DEPLOY, "holdfast-tpm.conf"), join(place, "holdfast.service.d/tpm.conf"));
  const asked = ["security", "--offline=true", `--threshold=${EXPOSURE_MAX}`, "--no-pager"];
  const { stdout } = await run("systemd-analyze", [...asked, join(place, "holdfast.service")]);
  assert.match(stdout, /\/dev\/tpmrm0:rw/, "the drop-in counts");
});

test("the compose file gives no capability, no root, no way to write that is not listed, and limits", () => {
  assert.deepEqual(holdfast["cap_drop"], ["ALL"]);
  assert.deepEqual(holdfast["security_opt"], ["no-new-privileges:true"]);
  assert.equal(holdfast["read_only"], true);
  assert.equal(holdfast["user"], `${USER}:${USER}`);
  for (const limit of ["mem_limit", "pids_limit", "healthcheck"]) assert.ok(holdfast[limit], limit);
  const mounted = holdfast.tmpfs.map((entry) => entry.split(":")[0]);
  assert.deepEqual(mounted, IN_MEMORY);
  const options = [...holdfast.tmpfs, ...Object.values(volumes).map(({ driver_opts: { o } }) => o)];
  for (const words of options) for (const word of ["noexec", "nosuid", "nodev"]) assert.ok(words.includes(word), words);
});

suite("the image", { skip: need("podman"), timeout: 400_000 }, () => {
  const place = mkdtempSync(join(tmpdir(), "holdfast-image-"));
  const name = `holdfast-test-${process.pid}`;
  const podman = (...args: string[]) => run("podman", args, { maxBuffer: 16 * 1024 * 1024 });
  const inside = async (script: string) =>
    (await podman("exec", name, "/usr/bin/node", "--no-function-context-cells", "-e", script)).stdout;
  after(async () => {
    await podman("rm", "--force", "--ignore", "--time", "0", name);
    await podman("rmi", "--force", "--ignore", name);
    rmSync(place, { recursive: true, force: true });
  });

  test("is built without a network, and holds no shell", async () => {
    await layOut(join(place, "image"));
    await podman("build", "--quiet", "--network", "none", "--format", "docker", "--tag", name, join(place, "image"));
    const programs = ["bin", "usr/bin", "usr/sbin"].flatMap((at) => names(join(place, "image/root", at)));
    assert.deepEqual(programs, ["node"]);
  });

  test("runs as the compose file says, and is healthy", async () => {
    for (const path of VOLUMES) {
      mkdirSync(join(place, path), { recursive: true, mode: 0o700 });
      chownSync(join(place, path), USER, USER);
    }
    await podman(
      "--runtime",
      "runc",
      "run",
      "--detach",
      "--name",
      name,
      "--network",
      "none",
      "--user",
      String(holdfast["user"]),
      "--read-only",
      "--read-only-tmpfs=false",
      "--cap-drop",
      "ALL",
      "--security-opt",
      "no-new-privileges",
      "--memory",
      String(holdfast["mem_limit"]),
      "--pids-limit",
      String(holdfast["pids_limit"]),
      "--ulimit",
      "nofile=16384:16384",
      "--ulimit",
      "nproc=4096:4096",
      ...holdfast.tmpfs.flatMap((entry) => ["--tmpfs", entry]),
      ...VOLUMES.flatMap((path) => ["--volume", `${join(place, path)}:${path}:noexec,nosuid,nodev`]),
      name,
    );
    let said = "";
    for (const endMs = performance.now() + WAIT_MS; ; await sleep(500)) {
      const healthy = await podman("healthcheck", "run", name).then(
        () => true,
        () => false,
      );
      if (healthy) break;
      if (performance.now() > endMs) {
        ({ stdout: said } = await podman("logs", name));
        assert.fail(`not healthy after ${WAIT_MS / 1000} s:\n${said}`);
      }
    }
  });

  test("gives its processes no user of the machine and no capability", async () => {
    const status = await inside(`
      const { readdirSync, readFileSync } = require("node:fs");
      const all = readdirSync("/proc").filter((name) => /^[0-9]+$/.test(name) && name !== String(process.pid));
      console.log(JSON.stringify(all.map((pid) => readFileSync("/proc/" + pid + "/status", "utf8"))))`);
    const processes = JSON.parse(status) as string[];
    assert.ok(processes.length > 10, `${processes.length} processes`);
    for (const one of processes) {
      assert.match(one, new RegExp(`^Uid:\\s+${USER}\\s`, "m"));
      assert.match(one, /^CapBnd:\s+0+$/m);
      assert.match(one, /^NoNewPrivs:\s+1$/m);
    }
    const confined = processes.filter((one) => Number(/^Seccomp_filters:\s+(\d+)$/m.exec(one)?.[1]) >= 1);
    assert.ok(confined.length > 10);
  });

  test("executes nothing that was written, on any mount, and writes nowhere else", async () => {
    const outcomes = await inside(`
      const { chmodSync, copyFileSync, writeFileSync } = require("node:fs");
      const { spawnSync } = require("node:child_process");
      const outcome = {};
      for (const path of ${JSON.stringify([...IN_MEMORY, ...VOLUMES, "/app", "/usr/bin", "/etc", "/"])}) {
        try {
          const file = path + "/planted";
          copyFileSync("/app/launcher", file);
          chmodSync(file, 0o755);
          outcome[path] = spawnSync(file).error?.code ?? "executed";
        } catch (error) { outcome[path] = error.code; }
      }
      outcome.control = spawnSync("/app/launcher").error?.code ?? "executed";
      console.log(JSON.stringify(outcome))`);
    const { control, ...tried } = JSON.parse(outcomes) as Record<string, string>;
    assert.equal(control, "executed", "the same file where it may be");
    for (const [path, outcome] of Object.entries(tried))
      // EACCES at the exec on a noexec mount; at the write where only root may. 1 MiB is less than a launcher never.
      assert.match(outcome, [...VOLUMES, "/tmp"].includes(path) ? /^EACCES$/ : /^(EACCES|EROFS)$/, path);
  });
});

function names(directory: string): string[] {
  try {
    return readdirSync(directory);
  } catch (error) {
    assert.equal((error as NodeJS.ErrnoException).code, "ENOENT");
    return [];
  }
}
