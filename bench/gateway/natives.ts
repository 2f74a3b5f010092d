/** nginx, haproxy and caddy, each with one worker, set up for what the gateway is compared in. */
import { mkdirSync, writeFileSync } from "node:fs";
import { userInfo } from "node:os";
import { join } from "node:path";
import { find, freePort, isUp, MEASURED_CORE, OTHER_CORE, type Running, start } from "./machine.ts";

export interface Native extends Running {
  readonly port: number;
}

/** What is answered behind all of them. */
export const BODY = "x".repeat(100);

export interface Papers {
  /** Certificate and key in files. */
  readonly certFile: string;
  readonly keyFile: string;
}

/** Starts the service behind: answers 100 bytes; `/slow` what takes as long as another hop to it. */
export const startBehind = (directory: string) =>
  startNginx({
    directory: join(directory, "behind"),
    core: OTHER_CORE,
    server: `keepalive_requests 1000000000; location / { default_type text/plain; return 200 "${BODY}"; }
      location /data { default_type application/json; return 200 '{"value":1,"name":"pump"}'; }`,
  });

/** nginx as a proxy with kept connections, and nothing else. */
export const startProxy = (directory: string, behind: number) =>
  startNginx({
    directory: join(directory, "proxy"),
    http: upstreamOf(behind),
    server: `keepalive_requests 1000000000; location / { ${PASS} }`,
  });

/** nginx with TLS 1.3, an id for each request, a limit by address, and an access log. */
export const startFull = (directory: string, behind: number, { certFile, keyFile }: Papers) =>
  startNginx({
    directory: join(directory, "full"),
    listen: "ssl",
    http: `${upstreamOf(behind)} limit_req_zone $binary_remote_addr zone=z:1m rate=1000000r/s;
      log_format lines '$request_id $remote_addr $request $status $body_bytes_sent $request_time';
      ssl_certificate ${certFile}; ssl_certificate_key ${keyFile}; ssl_protocols TLSv1.3;`,
    server: `keepalive_requests 1000000000; access_log ${directory}/full/access.log lines;
      limit_req zone=z burst=100000 nodelay; add_header X-Request-ID $request_id;
      location / { proxy_set_header X-Request-ID $request_id; ${PASS} }`,
  });

/** nginx that has the answer in its cache. */
export const startCache = (directory: string, behind: number) =>
  startNginx({
    directory: join(directory, "cache"),
    http: `${upstreamOf(behind)} proxy_cache_path ${directory}/cache/kept keys_zone=k:1m;`,
    server: `keepalive_requests 1000000000;
      location / { proxy_cache k; proxy_cache_valid any 1h; add_header X-Cache $upstream_cache_status; ${PASS} }`,
  });

const PASS = `proxy_http_version 1.1; proxy_set_header Connection ""; proxy_pass http://behind;`;
const upstreamOf = (port: number) =>
  `upstream behind { server 127.0.0.1:${port}; keepalive 64; keepalive_requests 1000000000; }`;

interface NginxOptions {
  readonly directory: string;
  readonly core?: number;
  readonly listen?: string;
  readonly http?: string;
  readonly server: string;
}

async function startNginx({ directory, core = MEASURED_CORE, listen = "", http = "", server }: NginxOptions) {
  const port = await freePort();
  mkdirSync(directory, { recursive: true });
  const file = join(directory, "nginx.conf");
  const temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
    .map((name) => `${name}_temp_path ${directory}/${name};`)
    .join(" ");
  writeFileSync(
    file,
    `user ${userInfo().username}; worker_processes 1; pid ${directory}/pid; error_log ${directory}/error.log; events { worker_connections 16384; }
     worker_rlimit_nofile 40000; http { access_log off; ${temporary} ${http}
     server { listen 127.0.0.1:${port} ${listen}; ${server} } }`,
  );
  const running = start(core, "nginx", ["-c", file, "-g", "daemon off;"]);
  await isUp(port);
  return { ...running, port };
}

/** haproxy as a proxy; undefined where it is not installed. */
export async function startHaproxy(directory: string, behind: number): Promise<Native | undefined> {
  if (!find("haproxy")) return undefined;
  const port = await freePort();
  const file = join(directory, "haproxy.cfg");
  writeFileSync(
    file,
    `global\n  nbthread 1\ndefaults\n  mode http\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s
  http-reuse always\nfrontend f\n  bind 127.0.0.1:${port}\n  default_backend b\nbackend b\n  server s 127.0.0.1:${behind}\n`,
  );
  const running = start(MEASURED_CORE, "haproxy", ["-db", "-f", file]);
  await isUp(port);
  return { ...running, port };
}

/** caddy as a proxy; undefined where it is not installed. */
export async function startCaddy(directory: string, behind: number): Promise<Native | undefined> {
  if (!find("caddy")) return undefined;
  const port = await freePort();
  const file = join(directory, "Caddyfile");
  writeFileSync(
    file,
    `{\n admin off\n auto_https off\n}\nhttp://127.0.0.1:${port} {\n reverse_proxy 127.0.0.1:${behind}\n}\n`,
  );
  const own = join(directory, "caddy");
  const home = { GOMAXPROCS: "1", XDG_DATA_HOME: own, XDG_CONFIG_HOME: own };
  const running = start(MEASURED_CORE, "caddy", ["run", "--config", file, "--adapter", "caddyfile"], home);
  await isUp(port);
  return { ...running, port };
}
