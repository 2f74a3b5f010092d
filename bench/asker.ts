/** Questions to a node's gateway. */
import { Agent, request } from "node:https";
import type { Whole } from "../test/houses/whole.ts";

/** Asks the gateway as a person does, over one kept connection. */
export async function asker(house: Whole): Promise<(path: string) => Promise<string>> {
  const token = (await house.text("token", "--role", "operator")).trim();
  const agent = new Agent({ keepAlive: true, maxSockets: 1, ca: await house.text("ca"), servername: "localhost" });
  return (path) =>
    new Promise((resolve, reject) => {
      request(
        { host: "127.0.0.1", port: house.gatewayPort, path, agent, headers: { authorization: `Bearer ${token}` } },
        (response) => {
          let body = "";
          response.setEncoding("utf8").on("data", (part: string) => (body += part));
          response.on("end", () =>
            response.statusCode === 200 ? resolve(body) : reject(new Error(`${response.statusCode}: ${body}`)),
          );
        },
      )
        .on("error", reject)
        .end();
    });
}
