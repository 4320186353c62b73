// `sluice savepoint`, `stop` and `checkpoint` as commands: options and help texts.
//
// Not here: what they do (savepoint.ts).

import type { Command } from "commander";

import { EXIT } from "./exit-codes.ts";
import { define, notEmpty } from "./option-values.ts";
import type { OnProgress, OperationReport } from "./savepoint.ts";

const JOB = "its name, or the address of its REST (host:port)";
const CLEAR_LINE = "\r\u001b[K";

const SAVEPOINT_HELP = `
A savepoint is a complete, movable copy of a job's state: kept until somebody deletes it, taken without side effects, from any
running job, also beside its checkpoints. It goes to {DIR}/savepoint-{job}-{random}.

Examples:
  $ sluice savepoint sums --target savepoints
  $ sluice savepoint 10.0.0.7:8081 --target s3://bucket/savepoints
  $ sluice run jobs/sum.ts --name sums-2 --from savepoints/savepoint-1a2b3c-0123456789ab
  $ sluice savepoint dispose savepoints/savepoint-1a2b3c-0123456789ab

Without --target it goes where the job is configured to put it (execution.checkpointing.savepoint-dir).`;

const STOP_HELP = `
The sources stop, a savepoint is taken, all output up to it is published, and the job ends. Run it again under its name and it
goes on from there; nothing is lost or doubled. If the savepoint fails, the job goes on from its newest checkpoint.

--drain ends the input for good first: what operators still hold back is emitted. Do not drain a job that you will resume.

Examples:
  $ sluice stop sums --savepoint savepoints
  $ sluice stop sums --savepoint s3://bucket/savepoints --drain`;

const DISPOSE_HELP = `
Deletes exactly this savepoint, after reading its metadata; what cannot be read is not touched. It is refused while a job needs
the savepoint: one that started from it and has no checkpoint of its own yet, one that was stopped with it, one that claimed it.
Jobs are looked for in the stores of --dir; without it in the runs below this directory.

Examples:
  $ sluice savepoint dispose savepoints/savepoint-1a2b3c-0123456789ab
  $ sluice savepoint dispose s3://bucket/savepoints/savepoint-1a2b3c-0123456789ab --dir s3://bucket/checkpoints \\
        -D s3.endpoint=http://127.0.0.1:9000`;

interface Flags {
  readonly json?: boolean;
}

/** Adds them to `program`; `done` takes the exit code. */
export function addSavepointCommands(program: Command, done: (exitCode: number) => void): void {
  const run = async (flags: Flags, act: (onProgress: OnProgress) => Promise<OperationReport>): Promise<void> => {
    const isWatched = process.stderr.isTTY && flags.json !== true;
    const onProgress: OnProgress = (line) => void (isWatched && process.stderr.write(`${CLEAR_LINE}${line}`));
    try {
      const report = await act(onProgress);
      onProgress("");
      process.stdout.write(flags.json === true ? `${JSON.stringify(report.json)}\n` : `${report.lines.join("\n")}\n`);
      done(EXIT.ok);
    } finally {
      onProgress("");
    }
  };

  const savepoint = program
    .command("savepoint")
    .description("take a savepoint of a running job; with dispose: delete one")
    .argument("<job>", JOB)
    .option("--target <dir>", "directory or URI for it (default: execution.checkpointing.savepoint-dir)", notEmpty)
    .option("--json", "JSON instead of text")
    .addHelpText("after", SAVEPOINT_HELP)
    .action(async (job: string, flags: Flags & { readonly target?: string }) => {
      const { takeSavepoint } = await import("./savepoint.ts");
      await run(flags, (onProgress) => takeSavepoint(job, { directory: flags.target, onProgress }));
    });

  savepoint
    .command("dispose")
    .description("delete a savepoint that no job needs")
    .argument("<savepoint>", "its directory, as a path or URI")
    .option("--dir <store>", "checkpoint store of jobs that may need it; may be repeated", collect, [])
    .option("-D, --define <key=value>", "set a configuration key, such as s3.endpoint; may be repeated", define, {})
    .option("--json", "JSON instead of text")
    .addHelpText("after", DISPOSE_HELP)
    .action(async (path: string, flags: Flags & DisposeFlags) => {
      const { dispose } = await import("./savepoint.ts");
      await run(flags, () => dispose(path, { stores: flags.dir, define: flags.define }));
    });

  program
    .command("stop")
    .description("stop a job with a savepoint; its next run goes on from there")
    .argument("<job>", JOB)
    .option("--savepoint <dir>", "directory or URI for it (default: execution.checkpointing.savepoint-dir)", notEmpty)
    .option("--drain", "end the input for good first; not for jobs that are resumed")
    .option("--json", "JSON instead of text")
    .addHelpText("after", STOP_HELP)
    .action(async (job: string, flags: Flags & { readonly savepoint?: string; readonly drain?: boolean }) => {
      const { stopJob } = await import("./savepoint.ts");
      const drain = flags.drain ?? false;
      await run(flags, (onProgress) => stopJob(job, { directory: flags.savepoint, drain, onProgress }));
    });

  program
    .command("checkpoint")
    .description("take a checkpoint of a running job now, beside the periodic ones")
    .argument("<job>", JOB)
    .option("--json", "JSON instead of text")
    .action(async (job: string, flags: Flags) => {
      const { takeCheckpoint } = await import("./savepoint.ts");
      await run(flags, (onProgress) => takeCheckpoint(job, { onProgress }));
    });
}

interface DisposeFlags {
  readonly dir: readonly string[];
  readonly define: Readonly<Record<string, string>>;
}

function collect(text: string, before: readonly string[]): readonly string[] {
  return [...before, notEmpty(text)];
}
