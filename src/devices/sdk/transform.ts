/** EdgeX's arithmetic on values (device-sdk transformers): between what the device says and what is reported. */
import type { DeviceResource } from "../../kernel/edgex.ts";
import { fail } from "../../kernel/error.ts";
import type { Value } from "../../kernel/events/model.ts";
import { DEVICE_FAILED, DEVICE_VALUE_INVALID } from "./api.ts";

const isFloat = (resource: DeviceResource) => resource.properties.valueType.startsWith("Float");

/** Applies mask, shift, base, scale and offset, in EdgeX's order; texts and the like pass as they are. DEVICE_FAILED on a failed assertion. */
export function transformRead(resource: DeviceResource, value: Value): Value {
  const { mask, shift, base, scale, offset, assertion } = resource.properties;
  let out = value;
  if (typeof out === "number" || typeof out === "bigint") {
    if (!isFloat(resource)) out = shifted(masked(out, mask), shift);
    if (base != null && base !== 0) out = Number(base) ** Number(out);
    if (scale != null && scale !== 1) out = Number(out) * scale;
    if (offset != null && offset !== 0) out = Number(out) + offset;
    if (!isFloat(resource) && typeof out === "number") out = Math.trunc(out);
  }
  if (assertion && String(out) !== assertion)
    throw fail(DEVICE_FAILED, `resource '${resource.name}' reads ${String(out)}, its assertion says ${assertion}`);
  return out;
}

/** Undoes the arithmetic before a write, after the limits were checked. DEVICE_VALUE_INVALID outside minimum and maximum. */
export function transformWrite(resource: DeviceResource, value: Value): Value {
  const { shift, base, scale, offset, minimum, maximum } = resource.properties;
  if (typeof value !== "number" && typeof value !== "bigint") return value;
  if ((minimum != null && value < minimum) || (maximum != null && value > maximum)) {
    throw fail(
      DEVICE_VALUE_INVALID,
      `${value} is outside the limits of resource '${resource.name}' (${minimum ?? "-"} to ${maximum ?? "-"})`,
    );
  }
  let out: number | bigint = value;
  if (offset != null && offset !== 0) out = Number(out) - offset;
  if (scale != null && scale !== 1 && scale !== 0) out = Number(out) / scale;
  if (base != null && base > 0 && base !== 1) out = Math.log(Number(out)) / Math.log(base);
  if (!isFloat(resource)) {
    if (typeof out === "number") out = Math.round(out);
    out = shifted(out, shift == null ? shift : -shift);
  }
  return out;
}

const masked = (value: number | bigint, mask: number | bigint | null | undefined) =>
  mask == null || Number(mask) === 0 ? value : narrow(BigInt(value) & BigInt(mask));

/** EdgeX: a positive shift goes right, a negative one left. */
function shifted(value: number | bigint, shift: number | bigint | null | undefined): number | bigint {
  if (shift == null || Number(shift) === 0) return value;
  const by = BigInt(shift);
  return narrow(by > 0n ? BigInt(value) >> by : BigInt(value) << -by);
}

const narrow = (value: bigint): number | bigint =>
  value >= -(2n ** 53n) && value <= 2n ** 53n ? Number(value) : value;
