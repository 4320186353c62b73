// Fields of a StreamJob that occur more than once: names, places, durations, quantities.
//
// Invariants:
//   SF1. A text that a CEL rule reads has a greatest length: the apiserver accepts a rule only when it can bound its cost.
//   SF2. Syntax is a rule with a message, not a pattern: the apiserver shows a pattern as it is.
//
// Not here: the spec (spec.ts), the status (status.ts).

import { intOrText, limited, ruled, text } from "../schema.ts";
import type { CelRule, Schema } from "../schema.ts";

/** A text of bounded length. */
export function bounded(charsMax: number, description: string): Schema<string> {
  return limited(text(description), { minLength: 1, maxLength: charsMax });
}

function matching(pattern: string, message: string): CelRule {
  return { rule: `self.matches(r'${pattern}')`, message };
}

/** As `parseDurationMs` of the kit reads it, without its rarer spellings. */
export function duration(description: string): Schema<string> {
  return ruled(
    bounded(32, description),
    matching(
      "^(\\d+([.]\\d{1,9})? ?(ms|s|sec|min|m|h|d)?|P[\\dDTHMS.]*\\d[DHMS])$",
      "not a duration: write for example 500ms, 10s, 5m or 1h",
    ),
  );
}

/** Kubernetes' quantity, above zero. `example` is what to write. */
export function quantity(description: string, example: string): Schema<number | string> {
  return ruled(limited(intOrText(description), { maxLength: 32 }), {
    rule: "type(self) == int ? self > 0 : isQuantity(self) && quantity(self).isGreaterThan(quantity('0'))",
    message: `not a quantity above zero: write for example ${example}`,
  });
}

/** Name of an object in the StreamJob's namespace. */
export function objectName(description: string): Schema<string> {
  return ruled(
    bounded(253, description),
    matching(
      "^[a-z0-9]([-.a-z0-9]*[a-z0-9])?$",
      "not the name of an object: lower-case letters, digits, '-' and '.', a letter or digit at both ends",
    ),
  );
}

/** A directory or object of a store, as the kit's `openObjectStore` reads it. */
export function storeUri(description: string): Schema<string> {
  return ruled(
    bounded(1024, description),
    matching(
      "^(s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[^?#]*)?|file:///[^?#]*[^/?#][^?#]*)$",
      "not a place in a store: write s3://BUCKET/PREFIX, or file:///DIRECTORY on a volume that all pods of the job mount",
    ),
  );
}

/** Node tells by the end of a file's name how to read it. */
export const JOB_FILE_ENDINGS = "[.](ts|mts|js|mjs)";
