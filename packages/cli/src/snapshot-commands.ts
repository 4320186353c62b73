// `sluice snapshot ...` as commands: options and help texts.
//
// Not here: what they do (snapshot.ts, snapshot-check.ts).

import { formatBytes } from "@sluice/kit";
import type { Command } from "commander";

import { EXIT } from "./exit-codes.ts";
import { count, define, notEmpty } from "./option-values.ts";
import type { SnapshotPlace, SnapshotReport } from "./snapshot.ts";

const SNAPSHOT_HELP = `
SNAPSHOT is a URI or a path: of the directory of a checkpoint or savepoint, or of a job's directory (then its newest checkpoint is
meant). Nothing is written, the job may run meanwhile or be gone, and its code is not needed, but for check: there its main runs and
its functions are opened once, in a process of its own, so what open() does to the world it does here, too; sources and sinks are not
opened. Credentials of S3 come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, its endpoint from -D s3.endpoint=...

Examples:
  $ sluice snapshot ls .sluice/first/checkpoints
  $ sluice snapshot show .sluice/first/checkpoints
  $ sluice snapshot get .sluice/first/checkpoints --uid sum --state sum --key even
  $ sluice snapshot verify s3://bucket/savepoints/savepoint-1a2b3c-4d5e6f -D s3.endpoint=http://127.0.0.1:9000
  $ sluice snapshot check jobs/first.ts .sluice/first/checkpoints
  $ sluice snapshot diff .sluice/first/checkpoints/default/first/chk-3 .sluice/first/checkpoints --keys

Exit codes: 0 as asked, 1 no (no such key, damaged, incompatible) or it did not work, 2 wrong command line or configuration.`;

interface Flags {
  readonly define: Readonly<Record<string, string>>;
  readonly json?: boolean;
}

interface GetFlags extends Flags {
  readonly uid: string;
  readonly state: string;
  readonly key?: string;
}

interface CheckFlags extends Flags {
  readonly allowNonRestoredState?: boolean;
}

interface DiffFlags extends Flags {
  readonly keys?: number | true;
}

/** Differing keys that --keys lists when no number is given. */
const KEYS_LISTED = 20;
const CLEAR_LINE = "\r\u001b[K";

/** Adds the group to `program`; `done` takes the exit code. */
export function addSnapshotCommands(program: Command, done: (exitCode: number) => void): void {
  const group = program
    .command("snapshot")
    .description("look into checkpoints and savepoints: what there is, states, single keys, damage, differences")
    .addHelpText("after", SNAPSHOT_HELP);

  const sub = (name: string, description: string, ...places: readonly string[]): Command => {
    const command = group.command(name).description(description);
    for (const place of places) command.argument(`<${place}>`, "URI or path");
    return command
      .option("-D, --define <key=value>", "set a configuration key, such as s3.endpoint; may be repeated", define, {})
      .option("--json", "JSON instead of text");
  };
  const finish = (report: SnapshotReport, flags: Flags): void => {
    if (process.stderr.isTTY) process.stderr.write(CLEAR_LINE);
    const { lines, json, ok = true } = report;
    process.stdout.write(flags.json === true ? `${JSON.stringify(json, undefined, 2)}\n` : `${lines.join("\n")}\n`);
    done(ok ? EXIT.ok : EXIT.failed);
  };
  const at = (place: string, flags: Flags): SnapshotPlace => ({ place, define: flags.define });

  sub("ls", "checkpoints that commit logs keep, and savepoints, below a directory", "place").action(
    async (place: string, flags: Flags) => {
      const { listPlace } = await import("./snapshot.ts");
      finish(await listPlace(at(place, flags)), flags);
    },
  );

  sub("show", "operators, states, kinds, types, sizes, numbers of entries, parallelism", "snapshot").action(
    async (place: string, flags: Flags) => {
      const { showPlace } = await import("./snapshot.ts");
      finish(await showPlace(at(place, flags)), flags);
    },
  );

  sub("get", "what one key has in a state, or the items of an operator state, as JSON", "snapshot")
    .requiredOption("--uid <uid>", "uid of the operator", notEmpty)
    .requiredOption("--state <name>", "name of the state", notEmpty)
    .option("--key <key>", "the key: plain text for STRING, base64 for BYTES, JSON for all others")
    .action(async (place: string, flags: GetFlags) => {
      const { getFromPlace } = await import("./snapshot.ts");
      const { uid, state, key } = flags;
      finish(await getFromPlace(at(place, flags), { uid, stateName: state, key }), flags);
    });

  sub("verify", "read every byte; check every checksum, value and key", "snapshot").action(
    async (place: string, flags: Flags) => {
      const { verifyPlace } = await import("./snapshot.ts");
      finish(await verifyPlace(at(place, flags), onProgress), flags);
    },
  );

  group
    .command("check")
    .description("whether a job can go on from a snapshot: every operator and state of both beside each other")
    .argument("<job>", "the job's module")
    .argument("<snapshot>", "URI or path")
    .argument("[args...]", "arguments for main; those that begin with - after a --")
    .option("-D, --define <key=value>", "set a configuration key; may be repeated", define, {})
    .option("--allow-non-restored-state", "state whose operator is gone is given up")
    .option("--json", "JSON instead of text")
    .action(async (job: string, place: string, args: readonly string[], flags: CheckFlags) => {
      const { checkPlace } = await import("./snapshot-check.ts");
      const request = { job, arguments: args, allowNonRestoredState: flags.allowNonRestoredState ?? false };
      finish(await checkPlace(at(place, flags), request), flags);
    });

  sub("diff", "states that came, went or changed from one snapshot to another", "before", "after")
    .option("--keys [count]", `compare all keys, and list so many that differ (default: ${KEYS_LISTED})`, count)
    .action(async (before: string, after: string, flags: DiffFlags) => {
      const { diffPlaces } = await import("./snapshot.ts");
      const keysMax = flags.keys === true ? KEYS_LISTED : flags.keys;
      finish(await diffPlaces(at(before, flags), at(after, flags), { keysMax, onProgress }), flags);
    });
}

/** Long work is seen on a terminal; it must not get into what a program reads. */
function onProgress({ doneBytes, totalBytes }: { readonly doneBytes: number; readonly totalBytes: number }): void {
  if (process.stderr.isTTY)
    process.stderr.write(`${CLEAR_LINE}${formatBytes(doneBytes)} of ${formatBytes(totalBytes)}`);
}
