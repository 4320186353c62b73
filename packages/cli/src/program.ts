// The commands, their options and help texts.
//
// Invariants:
//   PG1. Everything wrong with the command line ends with one message and exit code 2.
//
// Not here: what the commands do.

import { existsSync } from "node:fs";
import { resolve } from "node:path";
import { pathToFileURL } from "node:url";

import { SLUICE_VERSION } from "@sluice/api";
import { Failure } from "@sluice/kit";
import { Command, Help, Option } from "commander";

import type { Answer } from "./ask.ts";
import { EXIT } from "./exit-codes.ts";
import { addInitCommand } from "./init-command.ts";
import { count, define, notEmpty, port } from "./option-values.ts";
import { addSavepointCommands } from "./savepoint-commands.ts";
import { addSnapshotCommands } from "./snapshot-commands.ts";
import { addStoreCommands } from "./store-commands.ts";

interface RunFlags {
  readonly name?: string;
  readonly parallelism?: number;
  readonly taskManagers: number;
  readonly slots?: number;
  readonly define: Readonly<Record<string, string>>;
  readonly dir?: string;
  readonly restPort?: number;
  readonly from?: string;
  readonly claimMode?: string;
  readonly newLineage?: boolean;
  readonly lineage?: string;
  readonly allowNonRestoredState?: boolean;
  readonly workDir?: string;
  readonly plain?: boolean;
  readonly json?: boolean;
}

const RUN_HELP = `
Examples:
  $ sluice run jobs/sum.ts
  $ sluice run jobs/sum.ts --parallelism 4 --task-managers 2
  $ sluice run jobs/sum.ts -D execution.checkpointing.interval="10 s" --dir s3://bucket/checkpoints \\
        -D s3.endpoint=http://127.0.0.1:9000
  $ sluice run jobs/sum.ts -- --input flights.csv        # arguments of the job itself

Everything of a run lies in .sluice/NAME below the current directory, checkpoints too unless --dir says otherwise.
A run under a name that crashed, was cancelled or stopped goes on from its newest checkpoint, or the savepoint it stopped with.
Ctrl-C cancels the job; a second one kills its processes. docs/configuration.md lists the keys of -D.

Exit codes: 0 finished or cancelled, 1 failed, 2 wrong command line or configuration, 143 stopped by a signal.`;

const PROGRAM_HELP = `
Examples:
  $ sluice init my-jobs                                      # a project with a job and its tests
  $ sluice run jobs/sum.ts                                   # run a job; Ctrl-C cancels it, the same again continues it
  $ sluice status sum                                        # in a second terminal
  $ sluice savepoint sum --target savepoints
  $ sluice snapshot show .sluice/sum/checkpoints

A JOB is asked over REST: by its name where sluice run runs it in this directory, else by its address. SLUICE_REST_TOKEN in the
environment is the token where it wants one. \`sluice COMMAND --help\` tells more of each.`;

/** The program; `done` takes the exit code of the command that ran. */
export function makeProgram(done: (exitCode: number) => void): Command {
  const program = new Command("sluice")
    .description("Runs checkpointed streaming jobs written in TypeScript.")
    .version(SLUICE_VERSION)
    .showHelpAfterError("(sluice --help shows what there is)")
    .configureHelp({ optionDescription }) // the commands below take it over
    .addHelpText("after", PROGRAM_HELP)
    .exitOverride();

  program
    .command("run")
    .description("run a job on this machine: JobManager and TaskManagers as processes, started again when they die")
    .argument("<job>", "the job's module: a .ts or .js file that exports main(env, args)")
    .argument("[args...]", "arguments for main; those that begin with - after a --")
    .option("--name <name>", "name of the job (default: what it calls itself)", notEmpty)
    .option("-p, --parallelism <n>", "parallelism of operators that set none (parallelism.default)", count)
    .option("--task-managers <n>", "TaskManager processes", count, 1)
    .option("--slots <n>", "slots per TaskManager (default: as many as the job needs)", count)
    .option("-D, --define <key=value>", "set a configuration key; may be repeated", define, {})
    .option(
      "--dir <uri>",
      "where checkpoints go: file:///dir or s3://bucket/prefix (execution.checkpointing.dir)",
      notEmpty,
    )
    .option("--rest-port <port>", "port of REST and /metrics; 0 for any free one", port)
    .option("--from <place>", "start a new lineage from this savepoint or checkpoint: a directory or URI", notEmpty)
    .addOption(
      new Option(
        "--claim-mode <mode>",
        "who owns what --from names (execution.state-recovery.claim-mode): with CLAIM this job alone, which deletes it in the end",
      ).choices(["NO_CLAIM", "CLAIM"]),
    )
    .option("--new-lineage", "start anew over an existing job of this name, without its state")
    .option(
      "--lineage <id>",
      "identity of this start, for supervisors: with the same id again, --from and --new-lineage go on instead of beginning anew",
      notEmpty,
    )
    .option(
      "-n, --allow-non-restored-state",
      "drop state whose operator is not in the job any more (execution.state-recovery.ignore-unclaimed-state)",
    )
    .option("--work-dir <dir>", "directory of this run (default: .sluice/NAME)", notEmpty)
    .option("--plain", "plain lines, also on a terminal")
    .option("--json", "JSON lines")
    .addHelpText("after", RUN_HELP)
    .action(async (job: string, args: readonly string[], flags: RunFlags) => {
      const { runJob } = await import("./run.ts"); // the runtime is loaded by those who need it
      done(
        await runJob({
          job,
          arguments: args,
          name: flags.name,
          configuration: configurationOfFlags(flags),
          taskManagers: flags.taskManagers,
          slots: flags.slots,
          restPort: flags.restPort,
          workDir: flags.workDir,
          from: flags.from === undefined ? undefined : placeOf(flags.from),
          newLineage: flags.newLineage ?? false,
          lineage: flags.lineage,
          plain: flags.plain ?? false,
          json: flags.json ?? false,
        }),
      );
    });

  program
    .command("list")
    .description("the jobs that run in this directory")
    .option("--json", "JSON instead of text")
    .action(async (flags: AskFlags) => {
      const { listJobs } = await import("./ask.ts");
      say(await listJobs(), flags);
      done(EXIT.ok);
    });

  program
    .command("status")
    .description("a job's state, records, checkpoints and restarts")
    .argument("<job>", "its name, or the address of its REST (host:port)")
    .option("--json", "JSON instead of text")
    .action(async (target: string, flags: AskFlags) => {
      const { describeJob } = await import("./ask.ts");
      say(await describeJob(target, process.stdout.columns ?? 200), flags);
      done(EXIT.ok);
    });

  program
    .command("cancel")
    .description("cancel a job; its checkpoints are kept unless it is configured otherwise")
    .argument("<job>", "its name, or the address of its REST (host:port)")
    .option("--json", "JSON instead of text")
    .action(async (target: string, flags: AskFlags) => {
      const { cancelJob } = await import("./ask.ts");
      say(await cancelJob(target), flags);
      done(EXIT.ok);
    });

  addSavepointCommands(program, done);
  addSnapshotCommands(program, done);
  addStoreCommands(program, done);
  addInitCommand(program, done);

  for (const command of program.commands) {
    explainErrors(command, command.name());
    for (const sub of command.commands) explainErrors(sub, `${command.name()} ${sub.name()}`);
  }
  return program;
}

/** PG1: after what is wrong, where it can be looked up. */
function explainErrors(command: Command, typed: string): void {
  command.exitOverride().showHelpAfterError(`(sluice ${typed} --help shows what there is)`);
}

/** As commander has it, without the defaults of options that gather values: "nothing yet" tells nobody anything. */
function optionDescription(option: Option): string {
  const isGathering = typeof option.defaultValue === "object";
  return isGathering ? option.description : new Help().optionDescription(option);
}

/** A directory that is here is meant by its path; anything else is a URI, or lies in the job's store. */
function placeOf(text: string): string {
  return existsSync(text) ? pathToFileURL(resolve(text)).href : text;
}

interface AskFlags {
  readonly json?: boolean;
}

function say(answer: Answer, flags: AskFlags): void {
  process.stdout.write(flags.json === true ? `${JSON.stringify(answer.json)}\n` : `${answer.lines.join("\n")}\n`);
}

/** Short options are keys of the configuration; saying a thing twice with different values is a mistake. */
function configurationOfFlags(flags: RunFlags): Readonly<Record<string, string>> {
  const configuration: Record<string, string> = { ...flags.define };
  const shorthands = [
    ["--parallelism", "parallelism.default", flags.parallelism?.toString()],
    ["--dir", "execution.checkpointing.dir", flags.dir],
    ["--claim-mode", "execution.state-recovery.claim-mode", flags.claimMode],
    [
      "--allow-non-restored-state",
      "execution.state-recovery.ignore-unclaimed-state",
      flags.allowNonRestoredState?.toString(),
    ],
  ] as const;
  for (const [flag, key, value] of shorthands) {
    if (value === undefined) continue;
    const defined = configuration[key];
    if (defined !== undefined && defined !== value) {
      throw new Failure("CONFIG_INVALID", {
        retry: "never",
        message: `${flag} ${value} and -D ${key}=${defined} say different things`,
        remedy: "Give one of them.",
      });
    }
    configuration[key] = value;
  }
  return configuration;
}
