/** The gateway in a process of its own: whole, with its TLS door, and with one beside it that speaks HTTP without TLS. */
import { fork } from "node:child_process";
import { once } from "node:events";
import { openSync } from "node:fs";
import { createServer, type AddressInfo } from "node:net";
import { systemClock } from "../../src/kernel/clock.ts";
import { type LogLevel, makeLog } from "../../src/kernel/log.ts";
import { main, openDoor } from "../../src/services/gateway/main.ts";
import { startGateway } from "../../test/houses/gateway.ts";
import { MEASURED_CORE, type Running } from "./machine.ts";

export interface OursOptions {
  readonly routes: unknown;
  readonly logFile: string;
  /** 'info' has a line for each request. */
  readonly logLevel: LogLevel;
}

export interface Ours extends Running {
  readonly pid: number;
  readonly port: number;
  /** What nginx is compared with where it has no TLS; the node opens none such. */
  readonly plainPort: number;
  readonly caPem: string;
  readonly token: string;
}

/** As much of everything as the generator can ask for: limits are counted, and met by nobody. */
const CONFIG = {
  addressRequestsPerS: 1_000_000,
  addressBurst: 1_000_000,
  tokenRequestsPerS: 1_000_000,
  tokenBurst: 1_000_000,
  connectionsMax: 20_000,
  connectionsPerAddressMax: 20_000,
  keepAliveMs: 600_000,
};

/** Starts it. */
export async function startOurs(options: OursOptions, core = MEASURED_CORE): Promise<Ours> {
  const child = fork(import.meta.filename, [], {
    execPath: "/usr/bin/taskset",
    execArgv: ["-c", String(core), process.execPath, "--no-function-context-cells"],
  });
  child.send(options);
  const [said] = (await once(child, "message")) as [Omit<Ours, keyof Running>];
  return {
    ...said,
    child,
    async stop() {
      const ended = once(child, "exit");
      child.kill("SIGKILL");
      await ended;
    },
  };
}

async function run({ routes, logFile, logLevel }: OursOptions): Promise<void> {
  const plain = createServer({ noDelay: true });
  const log = makeLog("house", { level: logLevel, to: openSync(logFile, "a") });
  const house = await startGateway(CONFIG, systemClock, {
    log,
    main: {
      ...main,
      async start(context) {
        const { started, door } = await openDoor(context);
        plain.on("connection", (socket) => door.serve(socket));
        return started;
      },
    },
  });
  house.routes(routes);
  plain.listen(0, "127.0.0.1");
  await once(plain, "listening");
  const { port: plainPort } = plain.address() as AddressInfo;
  // Traces are shipped by the process that holds a service.
  setInterval(() => house.gateway.tracer.take(), 1_000);
  const { port, caPem } = house;
  process.send?.({ pid: process.pid, port, plainPort, caPem, token: await house.token() });
}

if (import.meta.main) {
  process.once("message", (options: OursOptions) => void run(options));
  process.once("disconnect", () => process.exit());
}
