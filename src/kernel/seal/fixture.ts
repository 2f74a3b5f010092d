/** Software stand-ins for the hardware that keys are sealed with, for tests: the real TPM 2.0 of swtpm, the real token of SoftHSM. */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { setTimeout as pause } from "node:timers/promises";

export interface SoftTpm {
  /** Its Unix socket. */
  readonly path: string;
  /** Measures something into a PCR, as a start with another system does. */
  extend(pcr: number): void;
  /** Switches it off and on: PCRs begin anew, the seed stays. */
  restart(): Promise<void>;
  stop(): Promise<void>;
}

const READY_TRIES = 400;
const READY_MS = 5;

/** Starts a software TPM with a seed of its own below `directory`. */
export async function startTpm(directory: string): Promise<SoftTpm> {
  mkdirSync(directory, { recursive: true });
  const path = join(directory, "tpm.sock");
  let child: ChildProcess | undefined;
  const start = async (): Promise<void> => {
    const control = `${path}.ctrl`;
    const sockets = ["--server", `type=unixio,path=${path}`, "--ctrl", `type=unixio,path=${control}`];
    child = spawn(
      "swtpm",
      ["socket", "--tpm2", "--tpmstate", `dir=${directory}`, "--flags", "not-need-init,startup-clear", ...sockets],
      {
        stdio: "ignore",
      },
    );
    for (let tries = 0; !existsSync(path) && tries < READY_TRIES; tries++) await pause(READY_MS);
  };
  const stop = async (): Promise<void> => {
    if (!child || child.exitCode !== null || child.signalCode !== null) return;
    const ended = once(child, "exit");
    child.kill();
    await ended;
  };
  await start();
  return {
    path,
    extend: (pcr) =>
      void execFileSync("tpm2_pcrextend", [`${pcr}:sha256=${"ab".repeat(32)}`], {
        env: { ...process.env, TPM2TOOLS_TCTI: `swtpm:path=${path}` },
        stdio: "pipe",
      }),
    async restart() {
      await stop();
      await start();
    },
    stop,
  };
}

export const SOFT_HSM = "/usr/lib/softhsm/libsofthsm2.so";
export const SOFT_PIN = "271828";

/** Makes tokens of SoftHSM below `directory`; the module finds them by its environment variable, which is of this process. */
export function makeTokens(directory: string, labels: readonly string[]): void {
  const tokens = join(directory, "tokens");
  mkdirSync(tokens, { recursive: true });
  const config = join(directory, "softhsm2.conf");
  writeFileSync(config, `directories.tokendir = ${tokens}\nobjectstore.backend = file\nlog.level = ERROR\n`);
  process.env["SOFTHSM2_CONF"] = config;
  for (const label of labels) {
    const pins = ["--so-pin", "31415926", "--pin", SOFT_PIN];
    execFileSync("softhsm2-util", ["--init-token", "--free", "--label", label, ...pins], { stdio: "pipe" });
  }
}
