/** Proxies of npm, installed by the run itself into its own directory: the node depends on none of them. */
import { execFile } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { promisify } from "node:util";
import { freePort, isUp, MEASURED_CORE, type Running, start } from "./machine.ts";

export interface NodePeer extends Running {
  readonly name: string;
  readonly port: number;
}

const PACKAGES = { "@fastify/http-proxy": "11", fastify: "5", "fast-gateway": "3.4.7", "http-proxy": "1.18.1" };
const INSTALL_MS = 120_000;

/** Each is a program of its argument's ports: its own, and that of the service behind. */
const PROGRAMS: Readonly<Record<string, string>> = {
  "@fastify/http-proxy": `
    import Fastify from "fastify";
    import proxy from "@fastify/http-proxy";
    const app = Fastify();
    app.register(proxy, { upstream: "http://127.0.0.1:" + behind });
    await app.listen({ port, host: "127.0.0.1" });`,
  "fast-gateway": `
    import gateway from "fast-gateway";
    gateway({ routes: [{ prefix: "/", target: "http://127.0.0.1:" + behind }] }).start(port, "127.0.0.1");`,
  "http-proxy": `
    import http from "node:http";
    import proxy from "http-proxy";
    const agent = new http.Agent({ keepAlive: true, maxSockets: 128 });
    proxy.createProxyServer({ target: "http://127.0.0.1:" + behind, agent }).listen(port, "127.0.0.1");`,
};

/** Installs them; the reason where that cannot be. */
export async function install(directory: string): Promise<string | undefined> {
  writeFileSync(join(directory, "package.json"), JSON.stringify({ type: "module", dependencies: PACKAGES }));
  try {
    const options = { cwd: directory, timeout: INSTALL_MS };
    await promisify(execFile)("npm", ["install", "--ignore-scripts", "--no-audit", "--no-fund"], options);
    return undefined;
  } catch {
    return "npm could not install it: is there a network?";
  }
}

/** Starts those that were installed. */
export async function startNodePeers(directory: string, behind: number): Promise<NodePeer[]> {
  const peers: NodePeer[] = [];
  for (const [name, program] of Object.entries(PROGRAMS)) {
    const port = await freePort();
    const file = join(directory, `${name.replaceAll(/[@/]/g, "")}.mjs`);
    writeFileSync(file, `const [port, behind] = process.argv.slice(2).map(Number);${program}`);
    // Imports stand anywhere at the top level of a module.
    const running = start(MEASURED_CORE, process.execPath, [file, String(port), String(behind)]);
    await isUp(port);
    peers.push({ ...running, name, port });
  }
  return peers;
}
