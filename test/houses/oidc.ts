/** A real provider of OpenID Connect (the certified oidc-provider) over TLS, and a browser as far as a login needs one. */
import { once } from "node:events";
import type { IncomingMessage } from "node:http";
import { createServer, request } from "node:https";
import type { AddressInfo } from "node:net";
import { text } from "node:stream/consumers";
import { Provider } from "oidc-provider";
import { systemClock } from "../../src/kernel/clock.ts";
import { createAuthority } from "../../src/kernel/identity/authority.ts";
import { certify, jwkOf, makeKey } from "./issuer.ts";

export interface Client {
  readonly id: string;
  readonly secret: string;
  /** The door's address: its callback, and where a logout ends. */
  readonly url: string;
}

/** Starts it on a free port of localhost. Whoever logs in is who they say; `groups` are theirs. */
export async function startProvider({ id, secret, url: door }: Client, groups: Readonly<Record<string, string[]>>) {
  const authority = await createAuthority({ node: "login", clock: systemClock });
  const key = makeKey("k1");
  const server = createServer(await certify(authority));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const url = `https://localhost:${(server.address() as AddressInfo).port}`;
  const provider = new Provider(url, {
    clients: [
      {
        client_id: id,
        client_secret: secret,
        redirect_uris: [`${door}/login/callback`],
        post_logout_redirect_uris: [`${door}/`],
        id_token_signed_response_alg: "ES256",
      },
    ],
    jwks: { keys: [{ ...jwkOf(key), ...key.privateKey.export({ format: "jwk" }) }] },
    cookies: { keys: ["of a test"] },
    claims: { openid: ["sub"], groups: ["groups"] },
    scopes: ["openid", "groups"],
    conformIdTokenClaims: false,
    pkce: { required: () => true },
    findAccount: (_: unknown, accountId: string) => ({
      accountId,
      claims: async () => ({ sub: accountId, groups: groups[accountId] ?? [] }),
    }),
  });
  const errors: string[] = [];
  provider.on("grant.error", (_, error) => errors.push(String(error)));
  server.on("request", provider.callback());
  return {
    url,
    caPem: authority.certPem,
    errors,
    async stop() {
      server.closeAllConnections();
      server.close();
      await once(server, "close");
    },
  };
}

export interface Page {
  readonly status: number;
  readonly url: URL;
  readonly headers: IncomingMessage["headers"];
  readonly setCookies: readonly string[];
  readonly body: string;
}

export interface Asked {
  readonly method?: string;
  readonly form?: Record<string, string>;
  readonly headers?: Record<string, string>;
}

/** Keeps cookies by host and path, and finds hosts by a table: `edge.example` is a port of this machine. */
export class Browser {
  readonly #hosts: Readonly<Record<string, { port: number; caPem: string }>>;
  readonly cookies = new Map<string, { host: string; path: string; name: string; value: string }>();

  constructor(hosts: Readonly<Record<string, { port: number; caPem: string }>>) {
    this.#hosts = hosts;
  }

  /** Asks for one page, and follows no redirect. */
  async ask(address: string | URL, { method = "GET", form, headers = {} }: Asked = {}): Promise<Page> {
    const url = new URL(address);
    const at = this.#hosts[url.host];
    const body = form && new URLSearchParams(form).toString();
    const cookie = [...this.cookies.values()]
      .filter(({ host, path }) => host === url.host && url.pathname.startsWith(path))
      .map(({ name, value }) => `${name}=${value}`)
      .join("; ");
    const asked = request({
      host: "127.0.0.1",
      port: at.port,
      servername: "localhost",
      ca: at.caPem,
      agent: false,
      method,
      path: url.pathname + url.search,
      headers: {
        host: url.host,
        ...(cookie === "" ? {} : { cookie }),
        ...(body === undefined
          ? {}
          : { "content-type": "application/x-www-form-urlencoded", "content-length": String(body.length) }),
        ...headers,
      },
    });
    asked.end(body);
    const [answer] = (await once(asked, "response")) as [IncomingMessage];
    const setCookies = answer.headers["set-cookie"] ?? [];
    for (const each of setCookies) this.#keep(url, each);
    return { status: answer.statusCode!, url, headers: answer.headers, setCookies, body: await text(answer) };
  }

  /** Asks, and follows redirects until a page or the first address that `stop` names. */
  async follow(address: string | URL, asked: Asked = {}, stop: (url: URL) => boolean = () => false): Promise<Page> {
    let page = await this.ask(address, asked);
    while (page.headers.location !== undefined) {
      const next = new URL(page.headers.location, page.url);
      if (stop(next)) break;
      page = await this.ask(next);
    }
    return page;
  }

  #keep({ host }: URL, line: string): void {
    const [pair = "", ...attributes] = line.split(";").map((each) => each.trim());
    const at = pair.indexOf("=");
    const [name, value] = [pair.slice(0, at), pair.slice(at + 1)];
    const of = (wanted: string) =>
      attributes.find((each) => each.toLowerCase().startsWith(`${wanted}=`))?.slice(wanted.length + 1);
    const path = of("path") ?? "/";
    const ended = of("max-age") === "0" || Date.parse(of("expires") ?? "9999-01-01") < Date.now();
    const key = `${host} ${path} ${name}`;
    if (ended) this.cookies.delete(key);
    else this.cookies.set(key, { host, path, name, value });
  }
}

/** Goes through the provider's pages as somebody, up to the address that `stop` names. */
export async function logIn(browser: Browser, from: string, name: string, stop: (url: URL) => boolean): Promise<Page> {
  let page = await browser.follow(from, {}, stop);
  for (const prompt of ["login", "consent"]) {
    const action = /action="([^"]+)"/.exec(page.body)?.[1];
    if (action === undefined) break;
    const form = { prompt, login: name, password: "of a test" };
    page = await browser.follow(new URL(action, page.url), { method: "POST", form }, stop);
  }
  return page;
}
