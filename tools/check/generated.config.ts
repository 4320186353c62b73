// Files that a program writes. `npm run check` writes them anew into an empty folder and compares.
//
// The program of an entry runs on Node with "--into DIR" appended and writes its outputs below DIR at the paths given
// here; `npm run generate` lets it write into the repository.

export interface GeneratedFiles {
  /** Path of the program, relative to the root. */
  readonly program: string;
  /** What it writes, relative to the root. */
  readonly outputs: readonly string[];
}

export const GENERATED: readonly GeneratedFiles[] = [
  { program: "tools/generate/configuration.ts", outputs: ["docs/configuration.md"] },
  { program: "tools/generate/openapi.ts", outputs: ["docs/openapi.json"] },
  { program: "tools/generate/streamjob.ts", outputs: ["docs/operator/streamjob.md"] },
  {
    program: "tools/generate/crd.ts",
    outputs: ["crds/streamjobs.sluice.dev.yaml", "charts/sluice/templates/crd-streamjobs.yaml"],
  },
];
