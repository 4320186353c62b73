// `sluice store ...` as commands: options and help texts.
//
// Not here: what they do (store.ts).

import { parseDurationMs } from "@sluice/kit";
import { type Command, Option } from "commander";

import { EXIT } from "./exit-codes.ts";
import { count, define, notEmpty } from "./option-values.ts";
import type { StorePlace, StoreReport } from "./store.ts";

const STORE_HELP = `
PLACE is a URI or a path: of a job's directory ({store}/{namespace}/{job}), or of one above it. Credentials of S3 come from
AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, its endpoint from -D s3.endpoint=...

Examples:
  $ sluice store inspect .sluice/first/checkpoints
  $ sluice store gc s3://bucket/checkpoints --dry-run -D s3.endpoint=http://127.0.0.1:9000
  $ sluice store gc .sluice/first/checkpoints --delete --older-than "10 min"
  $ sluice store pin .sluice/first/checkpoints --holder audit-2026 --for "7 d"
  $ sluice store close .sluice/first/checkpoints --job first
  $ sluice store purge .sluice/first/checkpoints --job first
  $ sluice store purge s3://bucket/checkpoints --job first --output s3://bucket/out --dry-run

All of it works while the job runs, and when nobody runs it any more. Only objects with names that Sluice writes are ever deleted, and
only after a commit record has condemned them; a checkpoint that is kept and cannot be read stops every deletion. Uploads in parts that
nobody will complete are aborted too; those of a file sink (--output), and what it has staged under names that begin with
.staged-part- and not published, only once its job is closed. They are counted together as unfinished uploads.`;

interface PlaceFlags {
  readonly job?: string;
  readonly define: Readonly<Record<string, string>>;
  readonly json?: boolean;
  readonly output?: readonly string[];
}

interface AgeFlags extends PlaceFlags {
  readonly olderThan: number;
}

interface PinFlags extends PlaceFlags {
  readonly holder: string;
  readonly checkpoint?: number;
  readonly for?: number;
}

const QUARANTINE = "1 h";
const CLEAR_LINE = "\r\u001b[K";

function age(text: string): number {
  return parseDurationMs(text, "--older-than");
}

function olderThan(description: string): Option {
  return new Option("--older-than <time>", description).argParser(age).default(age(QUARANTINE), QUARANTINE);
}

/** Adds the group to `program`; `done` takes the exit code. */
export function addStoreCommands(program: Command, done: (exitCode: number) => void): void {
  const group = program
    .command("store")
    .description("look after checkpoint stores: what is there, what is garbage, pins, the end of a job")
    .addHelpText("after", STORE_HELP);

  const sub = (name: string, description: string, jobHelp: string): Command =>
    group
      .command(name)
      .description(description)
      .argument("<place>", "URI or path of a job's directory, or of one above it")
      .option("--job <name>", jobHelp, notEmpty)
      .option("-D, --define <key=value>", "set a configuration key, such as s3.endpoint; may be repeated", define, {})
      .option("--json", "JSON instead of text");
  const output = [
    "--output <uri>",
    "s3:// directory of a file sink of the job, for its unfinished uploads and staged objects; may be repeated",
    (text: string, before: readonly string[]): readonly string[] => [...before, notEmpty(text)],
    [] as readonly string[],
  ] as const;
  const only = "only this job, by its name or {namespace}/{name}";
  const which = "which job, where there are several";

  sub("inspect", "jobs at a place: state, checkpoints that are kept and why, objects by what they are", only)
    .addOption(olderThan("garbage that is younger is shown as not sure"))
    .option("--objects", "every object")
    .option(...output)
    .action(async (place: string, flags: AgeFlags & { readonly objects?: boolean }) => {
      const { inspectStore } = await import("./store.ts");
      const options = { quarantineMs: flags.olderThan, showsObjects: flags.objects ?? false };
      report(await inspectStore(placeOf(place, flags), options), flags);
      done(EXIT.ok);
    });

  sub("gc", "find garbage; delete it with --delete", only)
    .option("--dry-run", "only say what would be deleted (the default)")
    .option("--delete", "condemn it in the commit log, then delete it")
    .addOption(olderThan("leave alone what is younger: it may be on its way"))
    .option(...output)
    .action(async (place: string, flags: AgeFlags & { readonly delete?: boolean; readonly dryRun?: boolean }) => {
      const { collectStore } = await import("./store.ts");
      const deletes = flags.delete === true && flags.dryRun !== true;
      report(await collectStore(placeOf(place, flags), { quarantineMs: flags.olderThan, deletes, onProgress }), flags);
      done(EXIT.ok);
    });

  sub("pin", "keep a checkpoint, whatever the job does", which)
    .requiredOption("--holder <name>", "who needs it; takes it back by this name", notEmpty)
    .option("--checkpoint <id>", "which one (default: the newest)", count)
    .option("--for <time>", "until then (default: until unpin)", (text) => parseDurationMs(text, "--for"))
    .action(async (place: string, flags: PinFlags) => {
      const { pinInStore } = await import("./store.ts");
      const options = { checkpointId: flags.checkpoint, holder: flags.holder, forMs: flags.for };
      report(await pinInStore(placeOf(place, flags), options), flags);
      done(EXIT.ok);
    });

  sub("unpin", "take pins back", which)
    .requiredOption("--holder <name>", "whose", notEmpty)
    .option("--checkpoint <id>", "only this one", count)
    .action(async (place: string, flags: PinFlags) => {
      const { unpinInStore } = await import("./store.ts");
      const options = { checkpointId: flags.checkpoint, holder: flags.holder };
      report(await unpinInStore(placeOf(place, flags), options), flags);
      done(EXIT.ok);
    });

  sub("close", "end a job for good: whoever runs it is fenced, nobody continues it; checkpoints stay", which).action(
    async (place: string, flags: PlaceFlags) => {
      const { closeInStore } = await import("./store.ts");
      report(await closeInStore(placeOf(place, flags)), flags);
      done(EXIT.ok);
    },
  );

  sub("purge", "delete all checkpoints of a closed job, and abort its unfinished uploads", which)
    .option("--dry-run", "only say what would be deleted")
    .option(...output)
    .action(async (place: string, flags: PlaceFlags & { readonly dryRun?: boolean }) => {
      const { purgeInStore } = await import("./store.ts");
      const options = { onProgress, isDryRun: flags.dryRun === true };
      report(await purgeInStore(placeOf(place, flags), options), flags);
      done(EXIT.ok);
    });
}

function placeOf(place: string, flags: PlaceFlags): StorePlace {
  return { place, job: flags.job, define: flags.define, outputs: flags.output ?? [] };
}

function report({ lines, json }: StoreReport, flags: PlaceFlags): void {
  if (process.stderr.isTTY) process.stderr.write(CLEAR_LINE);
  process.stdout.write(flags.json === true ? `${JSON.stringify(json, undefined, 2)}\n` : `${lines.join("\n")}\n`);
}

/** Long work is seen on a terminal; it must not get into what a program reads. */
function onProgress(text: string): void {
  if (process.stderr.isTTY) process.stderr.write(`${CLEAR_LINE}${text}`);
}
