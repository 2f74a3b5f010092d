/** EdgeX's arithmetic on values (device-sdk transformers): between what the device says and what is reported. */
import type { DeviceResource } from "../../kernel/edgex.ts";
import { fail } from "../../kernel/error.ts";
import type { Value } from "../../kernel/events/model.ts";
import { valueToText } from "../../kernel/events/values.ts";
import { DEVICE_FAILED, DEVICE_VALUE_INVALID } from "./api.ts";

type Numeric = number | bigint;

const isFloat = (resource: DeviceResource) => resource.properties.valueType.startsWith("Float");
/** Whether a property is there and does something: Go's zero value is "not given". */
const isSet = (property: Numeric | null | undefined): property is Numeric =>
  property !== undefined && property !== null && Number(property) !== 0;

/** Applies mask, shift, base, scale and offset, in EdgeX's order; texts and the like pass as they are. DEVICE_FAILED on a failed assertion. */
export function transformRead(resource: DeviceResource, value: Value): Value {
  const { mask, shift, base, scale, offset, assertion, valueType } = resource.properties;
  let out = value;
  if (typeof out === "number" || typeof out === "bigint") {
    if (!isFloat(resource) && isWhole(out)) out = shifted(masked(out, mask), shift);
    if (isSet(base)) out = base ** Number(out);
    if (isSet(scale) && scale !== 1) out = Number(out) * scale;
    if (isSet(offset))
      out = typeof out === "bigint" && Number.isInteger(offset) ? out + BigInt(offset) : Number(out) + offset;
    if (!isFloat(resource) && typeof out === "number" && out !== value) out = Math.trunc(out);
  }
  if (!assertion) return out;
  const text = out === null || out === undefined ? "" : valueToText(out, valueType);
  if (text !== assertion)
    throw fail(DEVICE_FAILED, `resource '${resource.name}' reads ${text}, its assertion says ${assertion}`);
  return out;
}

/** Undoes the arithmetic before a write, after the limits were checked. DEVICE_VALUE_INVALID outside minimum and maximum. */
export function transformWrite(resource: DeviceResource, value: Value): Value {
  const { shift, base, scale, offset, minimum, maximum } = resource.properties;
  if (typeof value !== "number" && typeof value !== "bigint") return value;
  const isBelow = minimum !== undefined && minimum !== null && value < minimum;
  const isAbove = maximum !== undefined && maximum !== null && value > maximum;
  if (isBelow || isAbove) {
    const limits = `${minimum ?? "-"} to ${maximum ?? "-"}`;
    throw fail(DEVICE_VALUE_INVALID, `${value} is outside the limits of resource '${resource.name}' (${limits})`);
  }
  let out: Numeric = value;
  if (isSet(offset)) out = Number(out) - offset;
  if (isSet(scale) && scale !== 1) out = Number(out) / scale;
  if (isSet(base) && base > 0 && base !== 1) out = Math.log(Number(out)) / Math.log(base);
  if (isFloat(resource)) return out;
  if (typeof out === "number") out = Math.round(out);
  return isSet(shift) ? shifted(out, -shift) : out;
}

const isWhole = (value: Numeric) => typeof value === "bigint" || Number.isInteger(value);

const masked = (value: Numeric, mask: Numeric | null | undefined): Numeric =>
  isSet(mask) ? narrow(BigInt(value) & BigInt(mask)) : value;

/** EdgeX: a positive shift goes right, a negative one left. */
function shifted(value: Numeric, shift: Numeric | null | undefined): Numeric {
  if (!isSet(shift)) return value;
  const by = BigInt(shift);
  return narrow(by > 0n ? BigInt(value) >> by : BigInt(value) << -by);
}

const narrow = (value: bigint): Numeric =>
  value >= Number.MIN_SAFE_INTEGER && value <= Number.MAX_SAFE_INTEGER ? Number(value) : value;
