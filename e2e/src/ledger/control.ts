// The control of the auditor: a ledger with one record removed, doubled, moved or with wrong state must fail.
//
// A test that cannot fail proves nothing; so every audit of the end-to-end tests is followed by this one, on the very ledger that passed.

import { auditLedger } from "./audit.ts";
import type { LedgerAudit, LedgerExpectation, LedgerFile } from "./audit.ts";

export const DAMAGES = ["removed", "doubled", "swapped", "state"] as const;
export type Damage = (typeof DAMAGES)[number];

/** A copy with one record damaged; `pick` chooses it. */
export function damageLedger(files: readonly LedgerFile[], damage: Damage, pick: number): readonly LedgerFile[] {
  const written = files.filter(({ text }) => text.split("\n").length > 3);
  const target = written[pick % written.length];
  if (target === undefined) throw new Error("the ledger is too small to damage one of its records");
  const lines = target.text.split("\n").filter((line) => line !== "");
  const at = 1 + (pick % (lines.length - 1)); // never the first line: swapping needs one before
  return files.map((file) => (file === target ? { ...file, text: damaged(lines, damage, at).join("\n") } : file));
}

function damaged(lines: readonly string[], damage: Damage, at: number): readonly string[] {
  const line = lines[at] ?? "";
  switch (damage) {
    case "removed":
      return lines.toSpliced(at, 1);
    case "doubled":
      return [...lines, line];
    case "swapped": {
      const key = line.split(" ", 1)[0];
      const sameKey = lines.findIndex((other, i) => i !== at && other.split(" ", 1)[0] === key);
      if (sameKey === -1) return lines.toSpliced(at, 1); // alone with its key: nothing to swap, removing must fail too
      return lines.with(at, lines[sameKey] ?? "").with(sameKey, line);
    }
    case "state":
      return lines.with(
        at,
        line.replace(/^(\d+ \d+) (\d+)/, (_, head: string, count: string) => `${head} ${Number(count) + 1}`),
      );
  }
}

/** What the auditor misses in a ledger that passes; empty is good. */
export function auditTheAuditor(
  files: readonly LedgerFile[],
  expected: LedgerExpectation,
  pick: number,
): readonly string[] {
  const caught: Readonly<Record<Damage, (audit: LedgerAudit) => boolean>> = {
    removed: ({ lost, outOfOrder }) => lost === 1 || outOfOrder > 0,
    doubled: ({ duplicates }) => duplicates === 1,
    swapped: ({ outOfOrder, lost }) => outOfOrder > 0 || lost > 0,
    state: ({ wrongState }) => wrongState === 1,
  };
  return DAMAGES.filter((damage) => {
    const audit = auditLedger(damageLedger(files, damage, pick), expected);
    return audit.passed || !caught[damage](audit);
  }).map((damage) => `a ledger with one record ${damage} passed`);
}
