// `sluice init` on the command line.
//
// Not here: what it writes (init.ts).

import { relative } from "node:path";

import type { Command } from "commander";

import { EXIT } from "./exit-codes.ts";
import { notEmpty } from "./option-values.ts";

interface InitFlags {
  readonly packages?: string;
  readonly force?: boolean;
}

const HELP = `
Example:
  $ sluice init my-jobs && cd my-jobs && npm install && npm test && npm start`;

export function addInitCommand(program: Command, done: (exitCode: number) => void): void {
  program
    .command("init")
    .description("make a project with a job, its tests, and all that they need")
    .argument("[directory]", "where; made when it is not there", ".")
    .option("--force", "also into a directory that is not empty: adds what is missing, and changes no file")
    .option("--packages <directory>", "install Sluice from the tarballs in this directory (npm run pack)", notEmpty)
    .addHelpText("after", HELP)
    .action(async (directory: string, flags: InitFlags) => {
      const { initProject } = await import("./init.ts");
      const made = initProject({ directory, packages: flags.packages, force: flags.force ?? false });
      const where = relative(process.cwd(), made.directory);
      const lines = [
        ...made.created.map((file) => `created  ${file}`),
        ...made.kept.map((file) => `kept     ${file}: it was there`),
        "",
        ...made.notes.map((note) => `${note}\n`),
        "Next:",
        ...(where === "" ? [] : [`  cd ${where}`]),
        "  npm install",
        "  npm test",
        "  npm start",
      ];
      process.stdout.write(`${lines.join("\n")}\n`);
      done(EXIT.ok);
    });
}
