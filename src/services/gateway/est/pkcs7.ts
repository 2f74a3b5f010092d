/** The form in which EST answers certificates: CMS SignedData without signers (RFC 5652 5, RFC 7030 4.1.3). */
import { context, der, oid, TAG } from "../../../kernel/identity/der.ts";
import { certificatesIn } from "../../../kernel/identity/trust.ts";

const SIGNED_DATA = oid("1.2.840.113549.1.7.2");
const DATA = oid("1.2.840.113549.1.7.1");

/** Puts certificates (PEM, one after the other) into one message. */
export function certsOnly(bundle: string): Buffer {
  const certificates = certificatesIn(bundle).map((one) =>
    Buffer.from(one.replace(/-----[A-Z ]+-----/g, "").replace(/\s/g, ""), "base64"),
  );
  const signed = der(
    TAG.sequence,
    der(TAG.integer, Buffer.of(1)),
    der(TAG.set),
    der(TAG.sequence, DATA),
    der(context(0), ...certificates),
    der(TAG.set),
  );
  return der(TAG.sequence, SIGNED_DATA, der(context(0), signed));
}
