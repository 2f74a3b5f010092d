/** `holdfast devices code`: the one-time code with which a device gets its own certificate over EST. */
import { identity } from "../services/identity/api.ts";
import { COMMON, readArguments } from "./arguments.ts";
import { EXIT } from "./exit.ts";
import { withLink } from "./link.ts";
import { openHints, openPage } from "./page.ts";
import { moment } from "./units.ts";

/** Makes a code and prints it alone; answers the exit status. */
export async function makeCode(args: readonly string[]): Promise<number> {
  const { values, positionals } = readArguments(args, COMMON, ["NAME"]);
  const [name = ""] = positionals;
  await withLink({ state: values.state, role: "admin" }, async (link) => {
    const { code, expiresAtMs } = await link.service(identity).deviceCode({ body: { name } }, link.call());
    const page = openPage();
    if (values.json) return page.json({ name, code, expiresAtMs });
    page.line(code);
    openHints()?.line(`good once, until ${moment(expiresAtMs)}; the device's user name is '${name}'`);
  });
  return EXIT.fine;
}
